"""Nothing that is read is executed, nothing that is downloaded is used unverified, and no shell sees text
from outside.
"""

import ast
import hashlib
import http.server
import re
import subprocess
import threading
from pathlib import Path

import pytest
import requests
import torch

from helpers import ROOT
from helpers.processes import forked, liif
from liif_plugin.basicsr_patches import launching
from liif_plugin.checkpoints import download as weights
from liif_plugin.checkpoints import downloadable
from liif_plugin.errors import UserError

SOURCES = sorted([*(ROOT / "liif_plugin").rglob("*.py"), *(ROOT / "scripts").glob("*.py"), ROOT / "setup.py"])
NEVER_IMPORTED = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib", "cloudpickle"}
NEVER_CALLED = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "yaml.unsafe_load",
    "yaml.full_load",
    "yaml.load_all",
    "torch.hub.load",
    "torch.jit.load",
    "runpy.run_path",
}


def only_known_names(tree: ast.Module) -> bool:
    """Whether pickle serves for nothing but readers whose find_class gives out names of their own."""
    attributes = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    uses = [name for name in attributes if re.match(r"pickle\.(?!UnpicklingError)", name)]
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    readers = [node for node in classes if [ast.unparse(base) for base in node.bases] == ["pickle.Unpickler"]]
    finders = [
        part for reader in readers for part in reader.body if getattr(part, "name", None) == "find_class"
    ]
    texts = [ast.unparse(finder) for finder in finders]
    imports = re.compile(r"super\(|getattr|import|sys\.modules|Unpickler")
    return 0 < len(uses) == len(readers) == len(texts) and not any(map(imports.search, texts))


def dangers(source: str) -> list[str]:
    """The calls and imports of a module that could execute what they are given."""
    found = []
    tree = ast.parse(source)
    allowed = {"pickle"} if only_known_names(tree) else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.asname or alias.name not in allowed]
            found += [name for name in names if name.split(".")[0] in NEVER_IMPORTED]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in NEVER_IMPORTED:
            found.append(node.module)
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        if (
            name in NEVER_CALLED
            or given.get("shell", "False") != "False"
            or given.get("allow_pickle", "False") != "False"
        ):
            found.append(name)
        if name.endswith("torch.load") and given.get("weights_only") != "True":
            found.append(name)
        if name.endswith("yaml.load") and given.get("Loader") not in ("OptionLoader", "yaml.SafeLoader"):
            found.append(name)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_of_ours_runs_what_it_reads(path):
    assert not dangers(path.read_text())


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "yaml.load(f, Loader=yaml.Loader)",
        "yaml.load(f, yaml.SafeLoader)",
        "import pickle",
        "import pickle\npickle.load(f)",
        "import pickle as p\np.load(f)",
        "import pickle\nclass R(pickle.Unpickler):\n  pass",
        "import pickle\nclass R(pickle.Unpickler):\n def find_class(s, m, n): super().find_class(m, n)",
        "import pickle\nclass R(pickle.Unpickler):\n def find_class(s, m, n): return s.a[n]\npickle.loads(d)",
        "import pickle, pickle as p\nclass R(pickle.Unpickler):\n def find_class(s, m, n): return s.a[n]",
        "from pickle import loads",
        "eval(x)",
        "exec(x)",
        "os.system(x)",
        "subprocess.run(x, shell=True)",
        "np.load(p, allow_pickle=True)",
        "subprocess.getoutput(x)",
        "__import__(x)",
    ],
)
def test_the_search_finds(line):
    assert dangers(line)


CODE = """
name: &x !!python/object/apply:os.system ["touch pwned"]
model_type: ContinuousSRModel
num_gpu: 0
datasets: {}
path: {}
"""


FORCED = """name'];__import__('os').system('touch pwned');opt['name=x"""


IN_A_FILE = CODE, [], "not a readable yml file"
FORCED_KEY = None, [FORCED], "expected key:key=value"
FORCED_VALUE = (
    None,
    ["train:total_iter=[__import__('os').system('touch pwned')]"],
    "total_iter: expected a whole number",
)


@pytest.mark.parametrize(
    ("way", "attack"),
    [
        ("liif test", IN_A_FILE),
        *(
            (way, attack)
            for way in ("liif train", "train.py")
            for attack in (IN_A_FILE, FORCED_KEY, FORCED_VALUE)
        ),
    ],
)
def test_option_files_and_forced_values_are_not_run(checkout, tmp_path, tiny_yml, way, attack):
    text, force, words = attack
    yml = tiny_yml()
    if text is not None:
        yml.write_text(text)
    argv = ["-opt", yml, *(["--force_yml", *force] if force else [])]
    if way == "train.py":
        done = forked(checkout / "basicsr" / "train.py", *argv, cwd=checkout)
    else:
        done = liif(way.split()[1], *argv, cwd=tmp_path)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("pwned")) and not list(tmp_path.rglob("experiments"))


def slurm_environment(monkeypatch, **changes):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "LOCAL_RANK", "RANK"):
        monkeypatch.setenv(name, "old")
    monkeypatch.delenv("MASTER_PORT")
    for name, value in {
        "SLURM_PROCID": "3",
        "SLURM_NTASKS": "4",
        "SLURM_NODELIST": "gpu[01-03,7],login-1.cluster",
        **changes,
    }.items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"SLURM_NODELIST": text}
        for text in (
            "$(touch pwned)",
            "a; touch pwned",
            "a|touch pwned",
            "`touch pwned`",
            "a\ntouch pwned",
            "a&b",
            "-V",
            "",
            "a b",
            "a>pwned",
            "ä",
        )
    ]
    + [
        {"SLURM_PROCID": "0; touch pwned"},
        {"SLURM_NTASKS": "0"},
        {"SLURM_NTASKS": "many"},
        {"SLURM_PROCID": None},
    ],
)
def test_slurm_without_a_shell(monkeypatch, tmp_path, changes):
    """BasicSR hands SLURM_NODELIST to a shell: CVE-2024-27763."""
    from basicsr.utils import dist_util

    monkeypatch.chdir(tmp_path)
    slurm_environment(monkeypatch, **changes)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a program was started"))
    with pytest.raises(UserError, match=f"{next(iter(changes))}"):
        dist_util.init_dist("slurm")
    assert not (tmp_path / "pwned").exists()


def test_slurm_as_basicsr_does_it(monkeypatch, tmp_path):
    from basicsr.utils import dist_util

    slurm_environment(monkeypatch)
    (tmp_path / "scontrol").write_text(
        '#!/bin/sh\n[ "$*" = "show hostname gpu[01-03,7],login-1.cluster" ] && printf "gpu01\\ngpu02\\n"\n'
    )
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    started = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend: started.append(backend))
    dist_util.init_dist("slurm", port=12345)
    from os import environ

    assert started == ["nccl"]
    assert [environ[name] for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "LOCAL_RANK", "RANK")] == [
        "gpu01",
        "12345",
        "4",
        "1",
        "3",
    ]
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="scontrol cannot be run"):
        launching.first_host("gpu01")


@pytest.fixture
def server():
    """Answers whatever ``server.answer(handler)`` writes; counts the bytes that were taken from it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked += 1
            self.server.answer(self)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.sent, server.url = 0, 0, f"http://127.0.0.1:{server.server_port}/liif.pth"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def sends(server, data, length=None, times=1):
    def answer(handler):
        handler.send_response(200)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        try:
            for _ in range(times):
                handler.wfile.write(data)
                server.sent += len(data)
        except (ConnectionError, OSError):
            pass  # the other side had enough

    server.answer = answer


def redirects(server, *targets):
    waiting = list(targets)

    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", waiting.pop(0) if len(waiting) > 1 else waiting[0])
        handler.end_headers()

    server.answer = answer


DATA = bytes(range(256)) * 400


def fetched(monkeypatch, folder, server, **changes):
    entry = {
        "file": "liif.pth",
        "url": server.url,
        "size": len(DATA),
        "sha256": hashlib.sha256(DATA).hexdigest(),
        "what": "a test's",
    }
    monkeypatch.setitem(downloadable.KNOWN, "ours", downloadable.Weights(**{**entry, **changes}))
    return weights.fetch("ours", str(folder))


def test_a_download_is_whole_and_verified(monkeypatch, tmp_path, server):
    sends(server, DATA, len(DATA))
    assert Path(fetched(monkeypatch, tmp_path / "got", server)).read_bytes() == DATA
    assert (
        fetched(monkeypatch, tmp_path / "got", server, sha256=hashlib.sha256(DATA).hexdigest()[:8], size=None)
        and server.asked == 1
    )


def wrong_size(server, tmp_path):
    sends(server, DATA[:-1], len(DATA) - 1)


def broken_off(server, tmp_path):
    sends(server, DATA[:1000], len(DATA))


def another_file(server, tmp_path):
    sends(server, DATA[::-1], len(DATA))


def endless(server, tmp_path):
    sends(server, DATA, None, times=100_000)


def nothing(server, tmp_path):
    sends(server, b"", 0)


def not_there(server, tmp_path):
    server.answer = lambda handler: handler.send_error(404)


def no_http(server, tmp_path):
    server.answer = lambda handler: handler.wfile.write(b"hello\r\n\r\n")


def to_a_file(server, tmp_path):
    (tmp_path / "secret").write_bytes(DATA)
    redirects(server, f"file://{tmp_path}/secret")


def to_ftp(server, tmp_path):
    redirects(server, "ftp://127.0.0.1/liif.pth")


def in_a_circle(server, tmp_path):
    redirects(server, server.url)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (wrong_size, "has 102,399 bytes"),
        (broken_off, "cannot be fetched|has 1,000 bytes"),
        (another_file, "its SHA-256 is"),
        (endless, "sends more than the 102,400 bytes"),
        (nothing, "has 0 bytes"),
        (not_there, "cannot be fetched.*404"),
        (no_http, "cannot be fetched"),
        (to_a_file, "leads to file://"),
        (to_ftp, "leads to ftp://"),
        (in_a_circle, "cannot be fetched"),
    ],
)
def test_what_is_not_the_published_file_is_not_used(monkeypatch, tmp_path, server, fault, words):
    fault(server, tmp_path)
    with pytest.raises(UserError, match=words) as refusal:
        fetched(monkeypatch, tmp_path / "got", server)
    assert not list((tmp_path / "got").iterdir()) and "\n" not in str(refusal.value)
    assert server.sent < 2**26  # an endless answer is not read to its end


def test_a_stream_of_unknown_size_has_an_end_too(monkeypatch, tmp_path, server):
    endless(server, tmp_path)
    monkeypatch.setattr(weights, "LARGEST", 10**6)
    with pytest.raises(UserError, match="more than the 1,000,000 bytes"):
        fetched(monkeypatch, tmp_path, server, size=None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:text/plain,x", "nonsense", "/etc/hostname"]
)
def test_only_the_web_is_asked(monkeypatch, tmp_path, server, url):
    with pytest.raises(UserError, match=r"address that begins with https|cannot be fetched"):
        fetched(monkeypatch, tmp_path, server, url=url)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "target", "allowed"),
    [
        ("https://example.org/a", "https://example.org/b", True),
        ("https://example.org/a", "/b", True),
        ("https://example.org/a", "http://example.org/b", False),
        ("https://example.org/a", "file:///etc/hostname", False),
        ("http://example.org/a", "http://example.org/b", True),
        ("http://example.org/a", "https://example.org/b", True),
        ("http://example.org/a", "ftp://example.org/b", False),
    ],
)
def test_https_stays_https(url, target, allowed):
    response = requests.Response()
    response.url, response.status_code, response.headers["location"] = url, 302, target
    if allowed:
        weights.check_redirect(response)
    else:
        with pytest.raises(UserError, match="leads to"):
            weights.check_redirect(response)


def test_the_cache_folder_of_the_user(monkeypatch, tmp_path, server):
    sends(server, DATA, len(DATA))
    monkeypatch.setattr(weights.pooch, "os_cache", lambda project: tmp_path / project)
    entry = downloadable.Weights(
        "liif.pth", server.url, len(DATA), hashlib.sha256(DATA).hexdigest(), "a test's"
    )
    monkeypatch.setitem(downloadable.KNOWN, "ours", entry)
    path = weights.fetch("ours")
    assert Path(path) == tmp_path / "liif_plugin" / "liif.pth"
    assert Path(path).read_bytes() == DATA


def test_a_damaged_file_that_is_there_already_is_not_used(monkeypatch, tmp_path, server):
    (tmp_path / "liif.pth").write_bytes(DATA[:-1] + b"x")
    with pytest.raises(UserError, match="its SHA-256 is"):
        fetched(monkeypatch, tmp_path, server)
    assert server.asked == 0 and (tmp_path / "liif.pth").read_bytes().endswith(b"x")
