// One side of the comparison. It asks the server for the view: first a coarse picture, then the sharp one. Until
// they arrive it shows the pixels that it has, moved and scaled.

const COARSE = 4;  // one pixel for 4 x 4
const COARSE_FROM = 2;  // below this scale encoding takes longer than decoding: a coarse picture would not come sooner
const TOKEN = new URLSearchParams(location.search).get("token") ?? "";  // of the link that `liif view` has printed
const CLIENT = Math.random().toString(36).slice(2, 12);

export class Layer {
  // onChange(): called when .state, .seconds or .problem has changed
  constructor(canvas, name, onChange) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.client = `${CLIENT}-${name}`;
    this.onChange = onChange;
    this.newest = document.createElement("canvas");  // the newest pixels of the server
    this.newestView = null;  // the view that .newest shows
    this.overview = null;  // the whole picture, small: drawn below the newest pixels
    this.wanted = this.finished = null;
    this.state = "idle";
  }

  // view: {x, y, scale, width, height, layer, cell, ensemble}, or null for nothing
  show(view) {
    this.wanted = view;
    if (!view) this.finished = this.newestView = null;
    this.sharp?.abort();
    this.compose();
    this.work();
  }

  // Whether the wanted view is complete, or has failed
  get settled() { return this.finished === this.wanted; }

  // Fetch the wanted view, and whatever is wanted when that has arrived
  async work() {
    if (this.working) return;
    this.working = true;
    while (!this.settled) {
      const view = this.wanted;
      const start = performance.now();
      try {
        if (view.scale >= COARSE_FROM && view.layer === "network") {
          this.setState("coarse");
          await this.draw(view, COARSE, null);  // not interrupted: what it shows is near what is wanted
          if (view !== this.wanted) continue;
        }
        this.setState("sharpening");
        this.sharp = new AbortController();
        await this.draw(view, 1, this.sharp.signal);
        if (view !== this.wanted) continue;
        this.finished = view;
        this.seconds = (performance.now() - start) / 1000;
        this.problem = "";
      } catch (error) {
        if (view !== this.wanted) continue;
        this.problem = error instanceof TypeError ? "the server does not answer; is `liif view` still running?" : error.message;
        this.finished = view;
      }
      this.compose();
    }
    this.working = false;
    this.setState(this.wanted ? "sharp" : "idle");
  }

  setState(state) {
    this.state = state;
    this.onChange();
  }

  // Fetch a view with one pixel for step x step, and draw it: a coarse one at its end, a sharp one row by row
  async draw(view, step, signal) {
    const [width, height] = [Math.ceil(view.width / step), Math.ceil(view.height / step)];
    const answer = await fetch(renderAddress(view, step, this.client), { signal });
    if (!answer.ok) throw new Error((await answer.text()).trim() || `the server said ${answer.status}`);
    const reader = answer.body.getReader();
    const pixels = new Uint8ClampedArray(width * height * 4);
    const rowBytes = width * 4;
    let received = 0, drawnRows = 0;
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      pixels.set(part.value.subarray(0, pixels.length - received), received);
      received += part.value.length;
      const rows = Math.floor(received / rowBytes);
      if (step > 1 || rows === drawnRows || view !== this.wanted) continue;
      this.startCanvas(view);
      this.newest.getContext("2d").putImageData(new ImageData(pixels.subarray(drawnRows * rowBytes, rows * rowBytes), width), 0, drawnRows);
      drawnRows = rows;
      this.compose();
    }
    if (received !== pixels.length) throw new Error("the server broke off; is it still running?");
    if (step === 1) return;
    const small = document.createElement("canvas");
    [small.width, small.height] = [width, height];
    small.getContext("2d").putImageData(new ImageData(pixels, width), 0, 0);
    this.startCanvas(view, true);
    this.newest.getContext("2d").drawImage(small, 0, 0, width * step, height * step);
    this.compose();
  }

  // Make .newest a canvas for the pixels of `view`. Unless `empty`, it begins with what is known of that view
  startCanvas(view, empty) {
    if (this.newestView === view) return;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [view.width, view.height];
    if (!empty) this.compose(view, canvas.getContext("2d"));
    this.newest = canvas;
    this.newestView = view;
  }

  // Draw everything that is known of `view`: the overview, and over it the newest pixels, moved and scaled
  compose(view = this.wanted, context = this.context) {
    if (!view) return context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    const source = this.newestView;
    if (context === this.context && (context.canvas.width !== view.width || context.canvas.height !== view.height))
      [context.canvas.width, context.canvas.height] = [view.width, view.height];
    context.clearRect(0, 0, view.width, view.height);
    context.imageSmoothingQuality = "high";
    if (this.overview && source !== view)
      paste(context, view, this.overview.image, 0, 0, this.overview.width, this.overview.height);
    if (source) {
      const { x, y, scale } = source;
      paste(context, view, this.newest, x, y, source.width / scale, source.height / scale);
    }
  }
}

// Draw an image that covers x, y, width, height of the picture at its place in `view`, and clear that place before
function paste(context, view, image, x, y, width, height) {
  const place = [(x - view.x) * view.scale, (y - view.y) * view.scale, width * view.scale, height * view.scale];
  if (Math.abs(place[2] - image.width) < 1e-6) place.splice(0, 4, Math.round(place[0]), Math.round(place[1]), image.width, image.height);
  context.clearRect(...place);
  context.drawImage(image, ...place);
}

// The address of a request to our server: path, parameters and the token
export function addressOf(path, parameters = {}) {
  return `${path}?${new URLSearchParams({ ...parameters, token: TOKEN })}`;
}

function renderAddress(view, step, client) {
  return addressOf("/render", { ...view, step, client, ensemble: view.ensemble ? 1 : 0 });
}

// Fetch the whole picture with at most `side` pixels a side: {image, width, height}, the latter in its own pixels
export async function thumbnail(about, side) {
  const scale = Math.min(1, side / Math.max(about.width, about.height));
  const [width, height] = [Math.ceil(about.width * scale), Math.ceil(about.height * scale)];
  const view = { x: 0, y: 0, scale, width, height, layer: "bicubic", cell: "true", ensemble: true };
  const answer = await fetch(renderAddress(view, 1, `${CLIENT}-whole`));
  if (!answer.ok) throw new Error((await answer.text()).trim());
  const image = document.createElement("canvas");
  [image.width, image.height] = [width, height];
  image.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(await answer.arrayBuffer()), width), 0, 0);
  return { image, width: width / scale, height: height / scale };
}
