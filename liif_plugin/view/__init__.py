"""The viewer of ``liif view``: a server for one picture, and the page that shows it in a browser.

views.py parses which part of the picture is asked for. renderer.py makes its pixels: with the network from a
cache of encoded tiles, or with resampler.py for the comparison. render_queue.py decides which request is
computed next. server.py answers the requests, and page/ is what the browser runs.
"""
