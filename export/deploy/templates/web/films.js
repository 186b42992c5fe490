// Films and cameras: hand out the newest frame whenever the net is free.

import { SegmenterError } from "./edgeunet.js";

const WINDOW = 2000; // milliseconds that the frame rate is counted over

/** Open a film file in a video element. */
export async function startFilm(video, file) {
  const url = URL.createObjectURL(file);
  const release = () => {
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(url);
  };
  video.src = url;
  try {
    await loaded(video);
  } catch {
    release();
    throw new SegmenterError(`expected a film that this browser plays (MP4 with H.264, WebM, …), got ${file.type}. Convert it: ffmpeg -i FILM film.webm`);
  }
  return new Moving(video, { live: false, release });
}

/** Open a camera. size: [height, width] of the net, which the camera is asked for at least. */
export async function startCamera(video, size) {
  if (!navigator.mediaDevices) {
    throw new SegmenterError(`browsers open cameras for https and localhost alone; this page came by ${location.origin}. Serve it by https.`);
  }
  let stream;
  try {
    const ideal = { width: { ideal: Math.max(640, size[1]) }, height: { ideal: Math.max(480, size[0]) } };
    stream = await navigator.mediaDevices.getUserMedia({ video: { ...ideal, facingMode: "environment" } });
  } catch (error) {
    throw new SegmenterError(REFUSALS[error.name] ?? `the camera does not start: ${error.message}`, { cause: error });
  }
  const release = () => {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  };
  video.srcObject = stream;
  try {
    await loaded(video);
  } catch {
    release();
    throw new SegmenterError("the camera gives no pictures. Unplug it, or choose another one in the browser's settings.");
  }
  const film = new Moving(video, { live: true, release });
  stream.getTracks()[0].addEventListener("ended", () => film.fail("the camera is gone. Plug it in again, and press Camera."));
  return film;
}

const REFUSALS = {
  NotAllowedError: "the browser refuses the camera. Allow it beside the page's address, and press Camera again.",
  NotFoundError: "expected a camera, found none. Plug one in, or open a film.",
  NotReadableError: "another program uses the camera. Close that, and press Camera again.",
  OverconstrainedError: "no camera gives pictures of a usual size. Plug in another one, or open a film.",
};

function loaded(video) {
  return new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = reject;
  });
}

/** Something that plays. size: [height, width]. onchange: called when it pauses, ends or moves on. */
class Moving {
  #video;
  #release;
  #end;
  #stopped = false;
  #shown = []; // performance.now() of results
  #frames = 0;
  #presented = 0;
  #first = null; // number of frames that the browser had presented before
  #net = 0;
  #total = 0;

  constructor(video, { live, release }) {
    this.#video = video;
    this.#release = release;
    this.live = live;
    this.size = [video.videoHeight, video.videoWidth];
    this.onchange = () => {};
    video.onplay = video.onpause = video.ontimeupdate = video.onended = () => this.onchange();
    video.onerror = () => this.fail("the film is damaged from here on.");
  }

  get paused() {
    return this.#video.paused;
  }

  get ended() {
    return this.#video.ended;
  }

  get position() {
    return this.#video.currentTime;
  }

  get duration() {
    return this.#video.duration;
  }

  toggle() {
    if (this.#video.paused) this.#video.play();
    else this.#video.pause();
  }

  /** share: 0 to 1 of the duration. */
  seek(share) {
    if (Number.isFinite(this.duration)) this.#video.currentTime = share * this.duration;
  }

  /** Play, and call with the video for each frame for which there is time. Ends with `stop`. */
  run(each) {
    const done = new Promise((resolve, reject) => (this.#end = { resolve, reject }));
    let busy = false;
    let missed = false; // a frame came while the net was busy
    const segment = async () => {
      do {
        missed = false;
        await each(this.#video);
      } while (missed && this.#video.paused && !this.#stopped); // no other frame follows
    };
    const next = async (_, about) => {
      if (this.#stopped) return;
      this.#wait(next);
      this.#first ??= (about?.presentedFrames ?? 1) - 1;
      this.#presented = about ? about.presentedFrames - this.#first : this.#presented + 1;
      missed = busy;
      if (busy) return;
      busy = true;
      try {
        await segment();
      } catch (error) {
        this.fail(error.message);
      }
      busy = false;
    };
    this.#wait(next);
    this.#video.play().catch(() => this.onchange()); // without a click, a browser may want one
    return done;
  }

  #wait(next) {
    if (this.#video.requestVideoFrameCallback) this.#video.requestVideoFrameCallback(next);
    else requestAnimationFrame(() => next());
  }

  /** Count a result that was shown. */
  count({ net, total }) {
    const now = performance.now();
    this.#shown.push(now);
    while (this.#shown[0] < now - WINDOW) this.#shown.shift();
    this.#frames++;
    const weight = Math.max(1 / this.#frames, 0.1);
    this.#net += weight * (net - this.#net);
    this.#total += weight * (total - this.#total);
  }

  /** rate: results a second. net, total: milliseconds. frames: results; dropped: frames without one. */
  speed() {
    const span = this.#shown.at(-1) - this.#shown[0];
    return {
      rate: span > 0 ? (1000 * (this.#shown.length - 1)) / span : 0,
      net: this.#net,
      total: this.#total,
      frames: this.#frames,
      dropped: Math.max(0, this.#presented - this.#frames),
    };
  }

  fail(reason) {
    if (this.#stopped) return;
    this.stop();
    this.#end?.reject(new SegmenterError(reason));
  }

  stop() {
    if (this.#stopped) return;
    this.#stopped = true;
    const video = this.#video;
    video.onplay = video.onpause = video.ontimeupdate = video.onended = video.onerror = null;
    video.pause();
    this.#release();
    this.#end?.resolve();
  }
}
