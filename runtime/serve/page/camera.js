// The camera of this device: sends what it sees to the server, one frame at a time, and shows each
// frame under the mask that comes back.

import { readMask } from "./records.js";

const LONGEST = 1280; // pixels of a frame's longer side: masks come back no larger
const QUALITY = 0.85; // of the JPEGs
const WINDOW = 3000; // milliseconds over which the speed is measured
const EVERY = 250; // milliseconds between two numbers: faster ones cannot be read
const RETRY = [1000, 8000]; // milliseconds before the connection is tried again: first, at most
const POLICY_VIOLATION = 1008; // trying again would not help

/** Why there is no camera, and what helps; empty if there may be one. */
export function obstacle() {
  if (navigator.mediaDevices?.getUserMedia) return "";
  if (isSecureContext) return "This browser has no camera.";
  return (
    "Browsers give a camera only to pages that come from localhost or by https, and this one came by http. " +
    "Start the server with --certificate and --key; edgeunet's README has the command that makes both."
  );
}

export class Camera {
  #video;
  #canvas = document.createElement("canvas");
  #stream = null;
  #socket = null;
  #facing = "environment";
  #fresh = false; // whether the camera has a frame that was not sent
  #wake = () => {}; // called when it has, and at the end
  #waiting = null; // the frame that was sent last, until its mask has come
  #sent = 0;
  #scale = 1; // below 1 once a frame was too large
  #limit;
  #answers = []; // of the last seconds: [when, milliseconds until it came, and in the net]
  #told = 0; // when the speed was told last
  #handlers;
  #run = 0; // counts starts: what belongs to an older one is dropped

  /**
   * video: an element for the camera. limit: most bytes of a frame. show: called with each
   * picture, see `View`. tell: called with what went wrong, or an empty text once it works. pace:
   * called with frames a second, and the milliseconds until a mask is there and in the net.
   */
  constructor(video, limit, { show, tell, pace }) {
    this.#video = video;
    this.#limit = limit;
    this.#handlers = { show, tell, pace };
  }

  /** Open the camera, and send until `stop`. Throws an error in words. */
  async start() {
    this.stop();
    const run = this.#run;
    const stream = await this.#open({ facingMode: this.#facing });
    if (run !== this.#run) return stream.getTracks().forEach((track) => track.stop());
    await this.#use(stream);
    this.#connect(run, RETRY[0]);
  }

  stop() {
    this.#run++;
    this.#socket?.close();
    this.#socket = null;
    this.#drop();
    this.#answers = [];
    this.#release();
    this.#wake();
  }

  /** Whether there may be another camera to switch to. */
  async hasOthers() {
    const devices = await navigator.mediaDevices.enumerateDevices();
    return devices.filter(({ kind }) => kind === "videoinput").length > 1;
  }

  /** Take the camera on the other side, or the next one where cameras have no side. */
  async switch() {
    const run = this.#run;
    const { facingMode, deviceId } = this.#stream.getVideoTracks()[0].getSettings();
    let wanted;
    if (facingMode) {
      this.#facing = facingMode === "user" ? "environment" : "user";
      wanted = { facingMode: this.#facing };
    } else {
      const devices = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
      const at = devices.findIndex((device) => device.deviceId === deviceId);
      wanted = { deviceId: { exact: devices[(at + 1) % devices.length].deviceId } };
    }
    this.#release(); // phones open one camera at a time
    const stream = await this.#open(wanted);
    if (run !== this.#run) return stream.getTracks().forEach((track) => track.stop());
    await this.#use(stream);
  }

  async #open(wanted) {
    const problem = obstacle();
    if (problem) throw new Error(problem);
    try {
      const size = { width: { ideal: LONGEST }, height: { ideal: 720 } };
      return await navigator.mediaDevices.getUserMedia({ audio: false, video: { ...wanted, ...size } });
    } catch (error) {
      throw new Error(REASONS[error.name] ?? `The camera does not open: ${error.message}`);
    }
  }

  async #use(stream) {
    this.#stream = stream;
    stream.getVideoTracks()[0].onended = () => this.#handlers.tell("The camera was taken away. Start it again.");
    this.#video.srcObject = stream;
    await this.#video.play();
    const note = () => {
      if (stream !== this.#stream) return;
      this.#fresh = true;
      this.#wake();
      onNextFrame(this.#video, note);
    };
    onNextFrame(this.#video, note);
  }

  #release() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = null;
    this.#fresh = false;
    this.#video.srcObject = null;
  }

  #connect(run, wait) {
    const address = new URL("camera", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    address.search = "";
    const socket = (this.#socket = new WebSocket(address));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      wait = RETRY[0];
      this.#handlers.tell("");
      this.#send(run);
    };
    socket.onmessage = async ({ data }) => {
      if (run !== this.#run) return;
      try {
        await this.#answered(data);
      } catch (error) {
        this.#handlers.tell(error.message);
      }
      this.#send(run);
    };
    socket.onclose = ({ code, reason }) => {
      if (run !== this.#run) return;
      this.#drop();
      this.#handlers.tell(`No answer from the server${reason ? `: ${reason}` : ""}.`);
      if (code === POLICY_VIOLATION) return;
      setTimeout(() => run === this.#run && this.#connect(run, Math.min(2 * wait, RETRY[1])), wait);
    };
  }

  /** Send the newest frame as soon as there is one. */
  async #send(run) {
    const video = this.#video;
    while (!this.#fresh && run === this.#run) await new Promise((resume) => (this.#wake = resume));
    if (run !== this.#run) return;
    this.#fresh = false;
    let blob = null;
    do {
      const fit = Math.min(1, LONGEST / Math.max(video.videoWidth, video.videoHeight)) * this.#scale;
      this.#canvas.width = Math.max(1, Math.round(video.videoWidth * fit));
      this.#canvas.height = Math.max(1, Math.round(video.videoHeight * fit));
      this.#canvas.getContext("2d").drawImage(video, 0, 0, this.#canvas.width, this.#canvas.height);
      blob = await new Promise((done) => this.#canvas.toBlob(done, "image/jpeg", QUALITY));
      if (run !== this.#run || !blob) return;
      if (blob.size > this.#limit) this.#scale /= 2;
    } while (blob.size > this.#limit);
    const frame = await createImageBitmap(this.#canvas);
    if (run !== this.#run || this.#socket.readyState !== WebSocket.OPEN) return frame.close();
    this.#drop();
    this.#waiting = frame;
    this.#sent = performance.now();
    this.#socket.send(blob);
  }

  async #answered(data) {
    const frame = this.#waiting;
    this.#waiting = null;
    try {
      if (typeof data === "string") throw new Error(`No mask: ${JSON.parse(data).error}`);
      const picture = await readMask(data, frame);
      this.#handlers.tell("");
      this.#count(performance.now(), picture.meta.milliseconds);
      this.#handlers.show(picture);
    } catch (error) {
      frame?.close();
      throw error;
    }
  }

  #count(now, inNet) {
    this.#answers.push([now, now - this.#sent, inNet]);
    while (this.#answers[0][0] < now - WINDOW) this.#answers.shift();
    const span = now - this.#answers[0][0];
    if (span === 0 || now - this.#told < EVERY) return;
    this.#told = now;
    const median = (at) => this.#answers.map((each) => each[at]).sort((a, b) => a - b)[this.#answers.length >> 1];
    this.#handlers.pace((1000 * (this.#answers.length - 1)) / span, median(1), median(2));
  }

  #drop() {
    this.#waiting?.close();
    this.#waiting = null;
  }
}

const REASONS = {
  NotAllowedError: "The browser refuses the camera. Allow it for this page, in the address bar or the settings.",
  NotFoundError: "This device has no camera.",
  NotReadableError: "Another program uses the camera. Close it there.",
  OverconstrainedError: "This device has no such camera.",
};

function onNextFrame(video, call) {
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(call);
  else requestAnimationFrame(call);
}
