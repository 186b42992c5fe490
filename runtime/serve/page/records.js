// Records of /stream, /segment and /camera: three lengths (32 bit, big-endian), then JSON, JPEG, class ids.

const HEAD = 12;

/** Splits a stream of bytes into records. `take` adds bytes and returns the complete records. */
class Splitter {
  #chunks = [];
  #size = 0;

  take(chunk) {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    const whole = [];
    for (;;) {
      const lengths = this.#lengths();
      if (!lengths) return whole;
      const total = HEAD + lengths[0] + lengths[1] + lengths[2];
      if (this.#size < total) return whole;
      const bytes = this.#joined();
      this.#chunks = [bytes.subarray(total)];
      this.#size -= total;
      if (lengths[0]) whole.push(split(bytes, lengths));
    }
  }

  #lengths() {
    if (this.#size < HEAD) return null;
    if (this.#chunks[0].length < HEAD) this.#joined();
    return lengthsOf(this.#chunks[0]);
  }

  #joined() {
    if (this.#chunks.length > 1) {
      const bytes = new Uint8Array(this.#size);
      let at = 0;
      for (const chunk of this.#chunks) {
        bytes.set(chunk, at);
        at += chunk.length;
      }
      this.#chunks = [bytes];
    }
    return this.#chunks[0];
  }
}

function lengthsOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEAD);
  return [view.getUint32(0), view.getUint32(4), view.getUint32(8)];
}

function split(bytes, [meta, jpeg, ids]) {
  const at = HEAD + meta;
  return {
    meta: JSON.parse(new TextDecoder().decode(bytes.subarray(HEAD, at))),
    jpeg: bytes.subarray(at, at + jpeg),
    ids: bytes.subarray(at + jpeg, at + jpeg + ids),
  };
}

/** The picture in a record: `meta`, `frame` (ImageBitmap) and `ids` (one byte per pixel). */
async function decode(record) {
  const [frame, ids] = await Promise.all([
    createImageBitmap(new Blob([record.jpeg], { type: "image/jpeg" })),
    inflate(record.ids),
  ]);
  return { meta: record.meta, frame, ids };
}

async function inflate(ids) {
  const inflated = new Blob([ids]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(inflated).arrayBuffer());
}

/** The picture of a frame and a record without a JPEG, as an ArrayBuffer. */
export async function readMask(buffer, frame) {
  const bytes = new Uint8Array(buffer);
  const record = split(bytes, lengthsOf(bytes));
  return { meta: record.meta, frame, ids: await inflate(record.ids) };
}

/** The single record of a response. */
export async function readPicture(response) {
  const bytes = new Uint8Array(await response.arrayBuffer());
  return decode(split(bytes, lengthsOf(bytes)));
}

/**
 * Calls `show` with each picture until the response ends. Skips pictures that are out of date: of
 * each source, the newest is kept.
 */
export async function readPictures(response, show) {
  const reader = response.body.getReader();
  const splitter = new Splitter();
  const newest = new Map(); // by source
  let busy = false;
  let failure = null;

  async function work() {
    busy = true;
    try {
      while (newest.size) {
        const [[source, record]] = newest;
        newest.delete(source);
        show(await decode(record));
      }
    } catch (error) {
      failure = error;
    } finally {
      busy = false;
    }
  }

  for (;;) {
    const { done, value } = await reader.read();
    if (failure) throw failure;
    if (done) return;
    for (const record of splitter.take(value)) newest.set(record.meta.source, record);
    if (newest.size && !busy) work();
  }
}
