// One side of the comparison: asks the server for what is in view, coarse first, and shows the last picture moved until it comes.

const COARSE = 4;  // one pixel for 4 x 4
const COARSE_FROM = 2;  // below this scale encoding takes longer than decoding: a coarse picture would not come sooner
const TOKEN = new URLSearchParams(location.search).get("token") ?? "";  // of the link that `liif view` has printed
const CLIENT = Math.random().toString(36).slice(2, 12);

export class Layer {
  // told(): is called when there is something new to say; look at .state, .seconds and .problem
  constructor(canvas, name, told) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.client = `${CLIENT}-${name}`;
    this.told = told;
    this.kept = document.createElement("canvas");  // the newest pixels, and where they belong
    this.keptView = null;
    this.whole = null;  // the whole picture, small: what is under the rest
    this.wanted = this.done = null;
    this.state = "idle";
  }

  // view: {x, y, scale, width, height, layer, cell, ensemble}, or null for nothing
  show(view) {
    this.wanted = view;
    if (!view) this.done = this.keptView = null;
    this.sharp?.abort();
    this.compose();
    this.work();
  }

  get settled() { return this.done === this.wanted; }

  async work() {
    if (this.working) return;
    this.working = true;
    while (!this.settled) {
      const view = this.wanted;
      const start = performance.now();
      try {
        if (view.scale >= COARSE_FROM && view.layer === "network") {
          this.say("coarse");
          await this.draw(view, COARSE, null);  // not interrupted: what it shows is near what is wanted
          if (view !== this.wanted) continue;
        }
        this.say("sharpening");
        this.sharp = new AbortController();
        await this.draw(view, 1, this.sharp.signal);
        if (view !== this.wanted) continue;
        this.done = view;
        this.seconds = (performance.now() - start) / 1000;
        this.problem = "";
      } catch (error) {
        if (view !== this.wanted) continue;
        this.problem = error instanceof TypeError ? "the server does not answer; is `liif view` still running?" : error.message;
        this.done = view;
      }
      this.compose();
    }
    this.working = false;
    this.say(this.wanted ? "sharp" : "idle");
  }

  say(state) {
    this.state = state;
    this.told();
  }

  async draw(view, step, signal) {
    const [width, height] = [Math.ceil(view.width / step), Math.ceil(view.height / step)];
    const answer = await fetch(renderAddress(view, step, this.client), { signal });
    if (!answer.ok) throw new Error((await answer.text()).trim() || `the server said ${answer.status}`);
    const reader = answer.body.getReader();
    const pixels = new Uint8ClampedArray(width * height * 4);
    const line = width * 4;
    let got = 0, painted = 0;
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      pixels.set(part.value.subarray(0, pixels.length - got), got);
      got += part.value.length;
      const rows = Math.floor(got / line);
      if (step > 1 || rows === painted || view !== this.wanted) continue;
      this.keep(view);
      this.kept.getContext("2d").putImageData(new ImageData(pixels.subarray(painted * line, rows * line), width), 0, painted);
      painted = rows;
      this.compose();
    }
    if (got !== pixels.length) throw new Error("the server broke off; is it still running?");
    if (step === 1) return;
    const small = document.createElement("canvas");
    [small.width, small.height] = [width, height];
    small.getContext("2d").putImageData(new ImageData(pixels, width), 0, 0);
    this.keep(view, true);
    this.kept.getContext("2d").drawImage(small, 0, 0, width * step, height * step);
    this.compose();
  }

  // Make .kept the place for the pixels of `view`, with what can be shown there already unless all of it comes anew
  keep(view, empty) {
    if (this.keptView === view) return;
    const before = document.createElement("canvas");
    [before.width, before.height] = [view.width, view.height];
    if (!empty) this.compose(view, before.getContext("2d"));
    this.kept = before;
    this.keptView = view;
  }

  // Everything that is known of `view`: the whole picture, and over it the newest pixels, moved and stretched
  compose(view = this.wanted, context = this.context) {
    if (!view) return context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    const kept = this.keptView;
    if (context === this.context && (context.canvas.width !== view.width || context.canvas.height !== view.height))
      [context.canvas.width, context.canvas.height] = [view.width, view.height];
    context.clearRect(0, 0, view.width, view.height);
    context.imageSmoothingQuality = "high";
    if (this.whole && kept !== view)
      paste(context, view, this.whole.image, 0, 0, this.whole.width, this.whole.height);
    if (kept) paste(context, view, this.kept, kept.x, kept.y, kept.width / kept.scale, kept.height / kept.scale);
  }
}

// Draw what covers x, y, width, height of the picture where `view` has it, instead of what is there
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

// The whole picture in at most `side` pixels a side, as {image, width, height}
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
