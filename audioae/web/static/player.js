// The player of audioae: recordings of the same length, switched in sync at matched loudness while
// they play, with waveform, spectrogram, level and gain.
//
// const player = new AudioaePlayer(container, description);
//
// The description is the JSON of `player_description` in audioae/web/report.py. The `src` of a part
// is the "#id" of an element with base64 text, a data: URI, or any URL that the page may fetch. All
// tracks have parts at the same times. Parts are decoded when they are needed, so the memory does
// not grow with the length, and scheduled on one AudioContext, so all tracks run on one clock:
// switching changes only their gains.

"use strict";

class AudioaePlayer {
  constructor(container, description) {
    this.description = description;
    this.tracks = description.tracks;
    this.seconds = description.seconds;
    this.selected = 0;
    this.position = 0; // seconds, while not playing
    this.playing = false;
    this.matched = true;
    this.loop = null; // [start, end] in seconds
    this.looping = false;
    this.view = [0, this.seconds];
    this.context = null;
    this.decoded = new Map(); // number of a part: promise of its buffers, one per track
    this.ready = new Map(); // the same, as soon as they are decoded
    this.token = 0; // changes with each start and stop, so that late decoding is ignored
    this.spans = []; // what is scheduled: { time, until, position }
    this.sources = [];
    this.levels = this.tracks.map((track) => decodeLevels(track.levels));
    this.peaks = this.tracks.map((track) => new Int8Array(decodeBase64(track.peaks.data).buffer));
    this.top = Math.max(1, ...this.peaks.map(loudest)); // of all waveforms, for their scale
    this.images = this.tracks.map((track) => loadTiles(track.spectrogram, () => this.draw()));
    this.build(container);
    this.select(0);
    this.showSelection();
    new ResizeObserver(() => this.draw()).observe(this.stage);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    requestAnimationFrame(() => this.follow());
  }

  // --- Elements

  build(container) {
    const root = element("section", { class: "player", "aria-label": "Player" });
    const choices = this.tracks.map((track, number) => {
      const input = element("input", { type: "radio", name: unique("track"), value: number });
      input.addEventListener("change", () => this.select(number));
      return { input, track, number };
    });
    const name = choices[0].input.name;
    choices.forEach((each) => (each.input.name = name));
    this.radios = choices.map((each) => each.input);
    this.playButton = button("Play", "play", () => this.toggle());
    this.clock = element("output", { class: "clock", "aria-live": "off" });
    this.slider = element("input", {
      type: "range", min: 0, max: this.seconds, step: "any", value: 0, "aria-label": "Position",
    });
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    const match = element("input", { type: "checkbox", checked: "" });
    match.addEventListener("change", () => this.match(match.checked));
    this.matchBox = match;
    this.loopButton = button("Loop", "", () => this.toggleLoop());
    this.clearButton = button("Clear", "", () => this.setLoop(null));
    this.zoomText = element("span", { class: "zoom", "aria-live": "polite" });
    this.status = element("p", { class: "status", role: "status" });
    const group = element("fieldset", { class: "choice" }, element("legend", {}, "Listen to"));
    for (const { input, track, number } of choices) {
      const key = element("kbd", { "aria-hidden": "true" }, String(number + 1));
      const label = element("label", { class: `track ${track.id}` }, input, track.label, key);
      group.append(label);
    }
    group.hidden = this.tracks.length < 2;
    const transport = element("div", { class: "transport" }, this.playButton, group, this.clock,
      element("label", { class: "check" }, match, "Match loudness"));
    transport.lastChild.hidden = this.tracks.length < 2;
    const tools = element("div", { class: "tools" },
      labelled("Loop", this.loopButton, button("Start", "", () => this.setEdge(0)),
        button("End", "", () => this.setEdge(1)), this.clearButton),
      labelled("Zoom", button("−", "", () => this.zoom(0.5), "Zoom out"),
        button("+", "", () => this.zoom(2), "Zoom in"),
        button("All", "", () => this.show([0, this.seconds]), "Show all"), this.zoomText));
    root.append(transport, this.slider, this.buildStage(), tools, this.status, keyHelp(this.tracks));
    container.replaceChildren(root);
    this.element = root;
    this.showClock();
  }

  buildStage() {
    this.canvases = {};
    const panels = [["overview", "Overview: the window can be dragged"], ["time", ""],
      ["waveform", "Waveform"], ["spectrogram", "Spectrogram"],
      ["level", "Level over time in dBFS"], ["gain", "Gain over time in dB"]];
    const holder = element("div", { class: "stage" });
    for (const [name, label] of panels) {
      if (name === "gain" && this.tracks.length < 2) continue;
      const canvas = element("canvas", { class: name, role: "img", "aria-label": label || "Time" });
      this.canvases[name] = canvas;
      holder.append(canvas);
    }
    this.overlay = element("div", { class: "overlay" });
    this.region = element("div", { class: "region", hidden: "" });
    this.cursor = element("div", { class: "cursor" });
    this.hover = element("output", { class: "hover", hidden: "", "aria-hidden": "true" });
    this.overlay.append(this.region, this.cursor, this.hover);
    holder.append(this.overlay);
    this.stage = holder;
    this.listen(this.overlay);
    this.listenOverview(this.canvases.overview);
    return holder;
  }

  // --- Pointer: a click seeks, a drag selects, the wheel zooms (with Ctrl) or moves the view

  listen(area) {
    let from = null;
    area.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      from = { x: event.offsetX, time: this.timeAt(event.offsetX) };
      area.setPointerCapture(event.pointerId);
    });
    area.addEventListener("pointermove", (event) => {
      this.showHover(event);
      if (!from || Math.abs(event.offsetX - from.x) < 5) return;
      const ends = [from.time, this.timeAt(event.offsetX)].sort((a, b) => a - b);
      this.loop = ends.map((time) => clamp(time, 0, this.seconds));
      this.showSelection();
    });
    area.addEventListener("pointerup", (event) => {
      if (!from) return;
      const dragged = Math.abs(event.offsetX - from.x) >= 5;
      const time = from.time;
      from = null;
      if (dragged) {
        this.looping = true;
        this.setLoop(this.loop);
        this.seek(this.loop[0]);
      } else {
        if (this.loop && (time < this.loop[0] || time > this.loop[1])) this.setLoop(null);
        this.seek(time);
      }
    });
    area.addEventListener("pointercancel", () => (from = null));
    area.addEventListener("pointerleave", () => (this.hover.hidden = true));
    area.addEventListener("wheel", (event) => {
      const width = this.view[1] - this.view[0];
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        this.zoom(Math.exp(-event.deltaY / 200), this.timeAt(event.offsetX));
      } else if ((event.shiftKey || event.deltaX) && width < this.seconds) {
        event.preventDefault();
        this.pan(((event.deltaX || event.deltaY) / this.plotWidth()) * width);
      }
    }, { passive: false });
  }

  listenOverview(canvas) {
    const move = (event) => {
      const width = this.view[1] - this.view[0];
      const share = (event.offsetX - GUTTER) / this.plotWidth();
      const start = clamp(share * this.seconds - width / 2, 0, this.seconds - width);
      this.show([start, start + width]);
    };
    let down = false;
    canvas.addEventListener("pointerdown", (event) => {
      down = true;
      canvas.setPointerCapture(event.pointerId);
      move(event);
    });
    canvas.addEventListener("pointermove", (event) => down && move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => (down = false));
    }
  }

  showHover(event) {
    const spectrogram = this.canvases.spectrogram;
    const y = event.offsetY + this.overlay.offsetTop - spectrogram.offsetTop;
    let text = formatTime(clamp(this.timeAt(event.offsetX), 0, this.seconds), 2);
    if (y >= 0 && y < spectrogram.clientHeight) {
      text += `  ${Math.round(this.hertzAt(1 - y / spectrogram.clientHeight))} Hz`;
    }
    this.hover.textContent = text;
    this.hover.hidden = event.pointerType !== "mouse";
    const left = Math.min(event.offsetX + 12, this.overlay.clientWidth - 130);
    this.hover.style.transform = `translate(${left}px, ${event.offsetY + 14}px)`;
  }

  // --- Keyboard

  handleKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = event.target;
    const type = target.matches?.("input, select, textarea, [contenteditable]") && target.type;
    if (type && !["radio", "checkbox", "range"].includes(type)) return;
    const isButton = target.matches?.("button, a, summary, input[type=checkbox]");
    if ((event.key === " " || event.key === "Enter") && isButton && target !== this.playButton) return;
    if (event.key.startsWith("Arrow") && type === "radio") return; // moves to the next choice
    const step = event.shiftKey ? 1 : 5;
    const actions = {
      " ": () => this.toggle(),
      ArrowLeft: () => this.seek(this.now() - step),
      ArrowRight: () => this.seek(this.now() + step),
      Home: () => this.seek(0),
      End: () => this.seek(this.seconds),
      "+": () => this.zoom(2),
      "=": () => this.zoom(2),
      "-": () => this.zoom(0.5),
      0: () => this.show([0, this.seconds]),
      l: () => this.toggleLoop(),
      "[": () => this.setEdge(0),
      "]": () => this.setEdge(1),
      m: () => this.tracks.length > 1 && this.match(!this.matched),
      Escape: () => this.setLoop(null),
    };
    this.tracks.forEach((_, number) => (actions[number + 1] = () => this.select(number)));
    const action = actions[event.key] ?? actions[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  }

  // --- Choices

  select(number) {
    this.selected = number;
    this.radios[number].checked = true;
    this.element.dataset.track = this.tracks[number].id;
    this.applyGains();
    this.draw();
  }

  match(on) {
    this.matched = on;
    this.matchBox.checked = on;
    this.applyGains();
  }

  gainOf(number) {
    if (number !== this.selected) return 0;
    return this.matched && this.tracks.length > 1 ? 10 ** (this.tracks[number].gainDb / 20) : 1;
  }

  applyGains() {
    if (!this.context) return;
    const now = this.context.currentTime;
    this.gains.forEach((node, number) => {
      node.gain.cancelScheduledValues(now);
      node.gain.setValueAtTime(node.gain.value, now);
      node.gain.linearRampToValueAtTime(this.gainOf(number), now + FADE);
    });
  }

  setLoop(loop) {
    const long = loop && loop[1] - loop[0] >= MIN_LOOP;
    this.loop = long ? loop : null;
    if (!long) this.looping = false;
    this.showSelection();
    this.restart();
  }

  setEdge(which) {
    const loop = this.loop ? [...this.loop] : [0, this.seconds];
    loop[which] = this.now();
    if (loop[1] - loop[0] < MIN_LOOP) loop[1 - which] = which ? 0 : this.seconds;
    this.looping = true;
    this.setLoop(loop);
  }

  toggleLoop() {
    this.looping = !this.looping;
    this.showSelection();
    this.restart();
  }

  // --- Playing

  toggle() {
    return this.playing ? this.pause() : this.play();
  }

  async play() {
    if (!this.seconds || this.playing) return;
    this.playing = true;
    this.showPlaying();
    this.open();
    const [start, end] = this.range();
    if (this.position >= end - 0.01 || (this.looping && this.position < start)) this.position = start;
    await this.begin();
  }

  pause() {
    this.position = this.now();
    this.playing = false;
    this.silence();
    this.showPlaying();
    this.showClock();
  }

  seek(time) {
    const wanted = clamp(time, 0, this.seconds);
    if (this.looping && this.loop && (wanted < this.loop[0] || wanted >= this.loop[1])) {
      this.looping = false;
      this.showSelection();
    }
    this.position = wanted;
    if (this.playing) this.begin();
    this.showClock();
  }

  restart() {
    if (!this.playing) return;
    this.position = this.now();
    const [start, end] = this.range();
    if (this.looping && (this.position < start || this.position >= end)) this.position = start;
    this.begin();
  }

  // The part that is played: the loop, or all.
  range() {
    return this.looping && this.loop ? this.loop : [0, this.seconds];
  }

  open() {
    if (this.context) {
      this.context.resume();
      return;
    }
    this.context = new AudioContext();
    this.master = this.context.createGain();
    this.master.connect(this.context.destination);
    this.gains = this.tracks.map((_, number) => {
      const node = this.context.createGain();
      node.gain.value = this.gainOf(number);
      node.connect(this.master);
      return node;
    });
  }

  // Start at the position, once its part is decoded.
  async begin() {
    this.silence();
    const token = this.token;
    const number = this.partAt(this.position);
    try {
      if (!this.ready.has(number)) await this.load(number);
      await this.context.resume();
    } catch (error) {
      if (token === this.token) this.fail(error);
      return;
    }
    if (token !== this.token || !this.playing) return;
    this.nextTime = this.context.currentTime + 0.03;
    this.nextPosition = this.position;
    this.schedule();
    this.timer = setInterval(() => this.schedule(), 200);
  }

  silence() {
    this.token += 1;
    clearInterval(this.timer);
    for (const { source, gain } of this.sources) {
      const now = this.context.currentTime;
      gain.gain.cancelScheduledValues(now);
      gain.gain.setValueAtTime(gain.gain.value, now);
      gain.gain.linearRampToValueAtTime(0, now + FADE / 2);
      source.stop(now + FADE);
    }
    this.sources = [];
    this.spans = [];
  }

  schedule() {
    const now = this.context.currentTime;
    const [start, end] = this.range();
    while (this.nextTime < now + AHEAD) {
      if (this.nextPosition >= end - 1e-4) {
        if (!this.looping) {
          if (now >= this.nextTime + this.latency()) this.stopAtEnd();
          return;
        }
        this.nextPosition = start;
      }
      const number = this.partAt(this.nextPosition);
      const buffers = this.ready.get(number);
      if (!buffers) {
        if (this.nextTime < now + 0.1) { // late: wait and go on from there
          this.position = this.nextPosition;
          this.begin();
        } else {
          this.load(number).catch((error) => this.fail(error));
        }
        return;
      }
      const part = this.tracks[0].parts[number];
      const until = Math.min(part.start + part.seconds, end);
      this.start(number, buffers, this.nextTime, this.nextPosition, until - this.nextPosition);
      this.nextTime += until - this.nextPosition;
      this.nextPosition = until;
      const next = this.partAt(until >= end - 1e-4 && this.looping ? start : until);
      if (!this.decoded.has(next)) this.load(next).catch((error) => this.fail(error));
    }
    this.spans = this.spans.filter((span) => span.until > now - 1);
    this.sources = this.sources.filter((each) => each.until > now - 1);
  }

  // Start all tracks at the same time of the context; neighbours overlap in a short cross-fade.
  start(number, buffers, time, position, seconds) {
    this.tracks.forEach((track, index) => {
      const part = track.parts[number];
      const source = this.context.createBufferSource();
      const gain = this.context.createGain();
      source.buffer = buffers[index];
      source.connect(gain).connect(this.gains[index]);
      gain.gain.setValueAtTime(0, time);
      gain.gain.linearRampToValueAtTime(1, time + FADE);
      gain.gain.setValueAtTime(1, time + Math.max(seconds, FADE));
      gain.gain.linearRampToValueAtTime(0, time + Math.max(seconds, FADE) + FADE);
      source.start(time, position - part.start + (part.lead || 0), seconds + FADE);
      this.sources.push({ source, gain, until: time + seconds + FADE });
    });
    this.spans.push({ time, until: time + seconds, position });
  }

  stopAtEnd() {
    this.playing = false;
    this.position = this.seconds;
    this.silence();
    this.showPlaying();
    this.showClock();
  }

  latency() {
    return this.context.outputLatency || this.context.baseLatency || 0;
  }

  // The position that is heard now, in seconds.
  now() {
    if (!this.playing || !this.spans.length) return this.position;
    const time = this.context.currentTime - this.latency();
    const span = this.spans.find((each) => time < each.until) ?? this.spans.at(-1);
    return clamp(span.position + Math.max(time - span.time, 0), 0, this.seconds);
  }

  partAt(time) {
    const parts = this.tracks[0].parts;
    const number = parts.findIndex((part) => time < part.start + part.seconds - 1e-6);
    return number < 0 ? parts.length - 1 : number;
  }

  load(number) {
    if (!this.decoded.has(number)) {
      this.status.textContent = this.ready.size ? "" : "Decoding …";
      const buffers = Promise.all(this.tracks.map((track) => this.decode(track.parts[number].src)));
      this.decoded.set(number, buffers);
      buffers.then((found) => {
        this.ready.set(number, found);
        this.status.textContent = "";
        for (const old of [...this.ready.keys()].slice(0, -KEPT_PARTS)) {
          this.ready.delete(old);
          this.decoded.delete(old);
        }
      }, () => this.decoded.delete(number));
    }
    return this.decoded.get(number);
  }

  async decode(src) {
    return this.context.decodeAudioData(await loadBytes(src));
  }

  fail(error) {
    this.playing = false;
    this.silence();
    this.showPlaying();
    const why = error instanceof TypeError ? "The audio cannot be loaded" :
      "This browser cannot decode Opus audio in Ogg; use a current Chrome, Edge, Firefox or Safari";
    this.status.textContent = `${why} (${error.message}).`;
  }

  // --- View

  plotWidth() {
    return Math.max(this.stage.clientWidth - GUTTER, 1);
  }

  timeAt(x) { // of the overlay, which has no gutter
    return this.view[0] + (x / this.plotWidth()) * (this.view[1] - this.view[0]);
  }

  xOf(time) {
    return ((time - this.view[0]) / (this.view[1] - this.view[0])) * this.plotWidth();
  }

  zoom(factor, around = null) {
    const [from, to] = this.view;
    const now = this.now();
    const centre = around ?? (now >= from && now <= to ? now : (from + to) / 2);
    const width = clamp((to - from) / factor, Math.min(MIN_VIEW, this.seconds), this.seconds);
    const start = centre - ((centre - from) / (to - from || 1)) * width;
    this.show([start, start + width]);
  }

  pan(seconds) {
    this.show([this.view[0] + seconds, this.view[1] + seconds]);
  }

  show([from, to]) {
    const width = Math.min(to - from, this.seconds);
    const start = clamp(from, 0, this.seconds - width);
    this.view = [start, start + width];
    const times = this.seconds / (width || 1);
    this.zoomText.textContent = times > 1.001 ? `${times.toFixed(times < 10 ? 1 : 0)}×` : "";
    this.showSelection();
    this.draw();
  }

  follow() {
    const now = this.now();
    if (this.playing) {
      const [from, to] = this.view;
      const width = to - from;
      if (width < this.seconds * 0.999 && (now > to || now < from)) {
        this.show([now - width * 0.05, now + width * 0.95]);
      }
      this.showClock();
    }
    const x = this.xOf(now);
    this.cursor.style.transform = `translateX(${x}px)`;
    this.cursor.hidden = x < 0 || x > this.plotWidth() + 1;
    requestAnimationFrame(() => this.follow());
  }

  showClock() {
    const now = this.now();
    const text = `${formatTime(now, 2)} / ${formatTime(this.seconds, 2)}`;
    if (this.clock.textContent !== text) this.clock.textContent = text;
    this.slider.value = now;
    const spoken = `${formatTime(now)} of ${formatTime(this.seconds)}`;
    if (this.slider.getAttribute("aria-valuetext") !== spoken) {
      this.slider.setAttribute("aria-valuetext", spoken);
    }
  }

  showPlaying() {
    this.playButton.textContent = this.playing ? "Pause" : "Play";
    this.element.classList.toggle("playing", this.playing);
  }

  showSelection() {
    this.loopButton.setAttribute("aria-pressed", String(this.looping));
    this.clearButton.disabled = !this.loop;
    this.region.hidden = !this.loop;
    if (!this.loop) return;
    const left = clamp(this.xOf(this.loop[0]), 0, this.plotWidth());
    const right = clamp(this.xOf(this.loop[1]), 0, this.plotWidth());
    this.region.style.left = `${left}px`;
    this.region.style.width = `${Math.max(right - left, 1)}px`;
    this.region.classList.toggle("active", this.looping);
  }

  // --- Drawing

  draw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.drawNow();
    });
  }

  drawNow() {
    const style = getComputedStyle(this.element);
    const colours = Object.fromEntries(
      ["text", "grid", "before", "after", "removed", "back", "window", "surface"].map((name) =>
        [name, style.getPropertyValue(`--${name}`).trim()]));
    const zoomed = this.view[1] - this.view[0] < this.seconds * 0.999;
    this.canvases.overview.hidden = !zoomed;
    for (const [name, canvas] of Object.entries(this.canvases)) {
      if (canvas.hidden) continue;
      const size = prepare(canvas);
      if (!size.width) continue;
      const painter = { ...size, colours, plot: size.width - GUTTER };
      this[`draw_${name}`](painter);
    }
    const top = this.canvases.waveform.offsetTop;
    this.overlay.style.top = `${top}px`;
    this.overlay.style.left = `${GUTTER}px`;
    this.showSelection();
  }

  draw_overview({ pen, width, height, plot, colours }) {
    this.paintWave(pen, this.selected, colours.grid, [0, this.seconds], plot, height);
    const scale = plot / this.seconds;
    pen.fillStyle = colours.window;
    pen.fillRect(GUTTER + this.view[0] * scale, 0, (this.view[1] - this.view[0]) * scale, height);
    pen.strokeStyle = colours.text;
    pen.strokeRect(GUTTER + this.view[0] * scale + 0.5, 0.5,
      Math.max((this.view[1] - this.view[0]) * scale - 1, 2), height - 1);
  }

  draw_time({ pen, plot, height, colours }) {
    const [from, to] = this.view;
    const wanted = ((to - from) / plot) * 80;
    const step = TIME_STEPS.find((each) => each >= wanted) ?? 3600;
    pen.fillStyle = pen.strokeStyle = colours.text;
    pen.textBaseline = "middle";
    for (let time = Math.ceil(from / step) * step; time <= to + 1e-9; time += step) {
      const x = GUTTER + this.xOf(time);
      pen.fillRect(Math.round(x), height - 5, 1, 5);
      const text = formatTime(time, step >= 1 ? 0 : step >= 0.1 ? 1 : 2);
      const wide = pen.measureText(text).width;
      pen.fillText(text, clamp(x - wide / 2, GUTTER, GUTTER + plot - wide), height / 2 - 3);
    }
  }

  draw_waveform({ pen, plot, height, colours }) {
    if (this.selected) this.paintWave(pen, 0, colours.back, this.view, plot, height);
    const colour = colours[this.tracks[this.selected].id] || colours.after;
    this.paintWave(pen, this.selected, colour, this.view, plot, height);
    pen.fillStyle = colours.grid;
    pen.fillRect(GUTTER, Math.round(height / 2), plot, 1);
    const top = 20 * Math.log10(this.top / 127);
    gutterText(pen, colours, [[0, `${top.toFixed(0).replace("-", "−")} dB`], [0.5, "−∞"]], height);
  }

  paintWave(pen, number, colour, [from, to], plot, height) {
    const peaks = this.peaks[number];
    const perPixel = (to - from) / plot / this.tracks[number].peaks.seconds;
    const first = from / this.tracks[number].peaks.seconds;
    const middle = height / 2;
    const scale = (height / 2 - 1) / this.top;
    const columns = peaks.length / 2;
    pen.fillStyle = colour;
    pen.beginPath();
    for (let x = 0; x < plot; x += 1) {
      const start = Math.floor(first + x * perPixel);
      const end = Math.max(Math.floor(first + (x + 1) * perPixel), start + 1);
      let low = 127;
      let high = -128;
      for (let column = start; column < end && column < columns; column += 1) {
        low = Math.min(low, peaks[2 * column]);
        high = Math.max(high, peaks[2 * column + 1]);
      }
      if (low > high) continue;
      pen.rect(GUTTER + x, middle - high * scale - 0.5, 1, (high - low) * scale + 1);
    }
    pen.fill();
  }

  draw_spectrogram({ pen, plot, height, colours }) {
    const { tiles, seconds } = this.images[this.selected];
    pen.fillStyle = "#040512";
    pen.fillRect(GUTTER, 0, plot, height);
    pen.save();
    pen.beginPath();
    pen.rect(GUTTER, 0, plot, height);
    pen.clip();
    for (const tile of tiles) {
      const left = GUTTER + this.xOf(tile.column * seconds);
      const right = GUTTER + this.xOf((tile.column + tile.columns) * seconds);
      if (tile.image.complete && tile.image.naturalWidth && right > GUTTER && left < GUTTER + plot) {
        pen.drawImage(tile.image, left, 0, right - left + 0.5, height);
      }
    }
    pen.restore();
    const nyquist = this.description.maxHz;
    const marks = HERTZ.filter((hertz) => hertz < nyquist * 0.93).map((hertz) =>
      [1 - mel(hertz) / mel(nyquist), hertz < 1000 ? String(hertz) : `${hertz / 1000}k`]);
    gutterText(pen, colours, [[0, "Hz"], ...marks], height);
  }

  hertzAt(share) {
    return 700 * (10 ** ((share * mel(this.description.maxHz)) / 2595) - 1);
  }

  draw_level(painter) {
    const { colours, height, pen, plot } = painter;
    grid(painter, [0, -30, -60, -90], 0, -100);
    this.tracks.forEach((track, number) => {
      if (track.id === "removed" && this.selected !== number) return;
      const strong = number === this.selected;
      this.paintLine(painter, (column) => this.levels[number][column] / 10, 0, -100,
        strong ? colours[track.id] : colours.back, strong ? 1.5 : 1);
    });
    caption(pen, colours, "Level, dBFS", plot, height);
  }

  draw_gain(painter) {
    const { colours, height, pen, plot } = painter;
    grid(painter, [0, -20, -40], 6, -50);
    const [before, after] = this.levels;
    const gain = (column) => (before[column] > -900 ? (after[column] - before[column]) / 10 : NaN);
    this.paintLine(painter, gain, 6, -50, colours.after, 1.5);
    caption(pen, colours, "Gain, dB", plot, height);
  }

  paintLine({ pen, plot, height }, value, top, bottom, colour, width) {
    const step = this.description.levelSeconds;
    const count = this.levels[0].length;
    const first = Math.max(Math.floor(this.view[0] / step) - 1, 0);
    const last = Math.min(Math.ceil(this.view[1] / step) + 1, count - 1);
    const group = Math.max(Math.floor((last - first) / plot), 1);
    pen.save();
    pen.beginPath();
    pen.rect(GUTTER, 0, plot, height);
    pen.clip();
    pen.beginPath();
    let drawing = false;
    for (let column = first; column <= last; column += group) {
      const found = value(column);
      const x = GUTTER + this.xOf((column + group / 2) * step);
      const y = ((top - clamp(found, bottom, top)) / (top - bottom)) * (height - 2) + 1;
      if (Number.isNaN(found)) drawing = false;
      else if (drawing) pen.lineTo(x, y);
      else pen.moveTo(x, y);
      drawing = !Number.isNaN(found);
    }
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.lineJoin = "round";
    pen.stroke();
    pen.restore();
  }
}

const GUTTER = 44; // px, left of the plots
const FADE = 0.01; // seconds, of cross-fades
const AHEAD = 2.5; // seconds that are scheduled ahead; timers of hidden pages run once a second
const KEPT_PARTS = 4; // decoded at a time
const MIN_LOOP = 0.02; // seconds
const MIN_VIEW = 0.05; // seconds
const TIME_STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800];
const HERTZ = [200, 500, 1000, 2000, 4000, 8000, 16000];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function button(text, kind, action, label = null) {
  const made = element("button", { type: "button", class: kind }, text);
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", action);
  return made;
}

function labelled(text, ...children) {
  const id = unique("group");
  return element("div", { class: "group", role: "group", "aria-labelledby": id },
    element("span", { class: "name", id }, text), ...children);
}

let counter = 0;
function unique(name) {
  counter += 1;
  return `audioae-${name}-${counter}`;
}

function keyHelp(tracks) {
  const choose = tracks.map((track, number) => [[String(number + 1)], track.label]);
  const keys = [[["Space"], "play, pause"], ...(tracks.length > 1 ? choose : []),
    [["←", "→"], "5 s back, on (Shift: 1 s)"], [["+", "−"], "zoom"], [["0"], "show all"],
    [["[", "]"], "loop start, end"], [["L"], "loop on, off"], [["Esc"], "clear the selection"]];
  if (tracks.length > 1) keys.push([["M"], "match loudness"]);
  const list = element("ul", { class: "keys", "aria-label": "Keyboard" });
  for (const [names, meaning] of keys) {
    list.append(element("li", {}, ...names.map((name) => element("kbd", {}, name)), ` ${meaning}`));
  }
  return list;
}

function decodeBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let place = 0; place < binary.length; place += 1) bytes[place] = binary.charCodeAt(place);
  return bytes;
}

function decodeLevels(text) {
  return new Int16Array(decodeBase64(text).buffer);
}

// The bytes of a part: of an element of the page, a data: URI or another URL.
async function loadBytes(src) {
  if (src.startsWith("#")) {
    if (document.readyState === "loading") { // the element may be missing or incomplete
      await new Promise((done) => document.addEventListener("DOMContentLoaded", done));
    }
    return decodeBase64(document.getElementById(src.slice(1)).textContent).buffer;
  }
  if (src.startsWith("data:")) return decodeBase64(src.slice(src.indexOf(",") + 1)).buffer;
  const answer = await fetch(src);
  if (!answer.ok) throw new TypeError(`${answer.status} ${answer.statusText}`);
  return answer.arrayBuffer();
}

function loadTiles({ tiles, seconds }, whenLoaded) {
  return {
    seconds,
    tiles: tiles.map((tile) => {
      const image = new Image();
      image.addEventListener("load", whenLoaded);
      image.src = tile.src;
      return { ...tile, image };
    }),
  };
}

function loudest(peaks) {
  let top = 0;
  for (const value of peaks) top = Math.max(top, Math.abs(value));
  return top;
}

// Give a canvas the pixels of the screen and clear it.
function prepare(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "11px system-ui, sans-serif";
  return { pen, width, height };
}

function gutterText(pen, colours, marks, height) {
  pen.fillStyle = colours.text;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const [share, text] of marks) {
    pen.fillText(text, GUTTER - 6, clamp(share * height, 7, height - 7));
  }
  pen.textAlign = "left";
}

function grid({ pen, plot, height, colours }, values, top, bottom) {
  pen.fillStyle = colours.grid;
  const share = (value) => (top - value) / (top - bottom);
  for (const value of values) pen.fillRect(GUTTER, Math.round(share(value) * (height - 1)), plot, 1);
  const marks = values.map((value) => [share(value), String(value).replace("-", "−")]);
  gutterText(pen, colours, marks, height);
}

function caption(pen, colours, text, plot, height) {
  const wide = pen.measureText(text).width;
  pen.fillStyle = colours.surface;
  pen.fillRect(GUTTER + plot - wide - 10, height - 18, wide + 10, 18);
  pen.fillStyle = colours.text;
  pen.fillText(text, GUTTER + plot - wide - 5, height - 8);
}

function mel(hertz) {
  return 2595 * Math.log10(1 + hertz / 700);
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

function formatTime(seconds, decimals = 0) {
  const total = decimals ? Math.round(seconds * 100) : Math.floor(seconds + 1e-6) * 100;
  const [hours, minutes] = [Math.floor(total / 360000), Math.floor(total / 6000) % 60];
  let rest = ((total % 6000) / 100).toFixed(decimals);
  if (total % 6000 < 1000) rest = `0${rest}`;
  const head = hours ? `${hours}:${String(minutes).padStart(2, "0")}` : String(minutes);
  return `${head}:${rest}`;
}
