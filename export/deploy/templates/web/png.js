// Masks as PNG files of 8 bits with a palette.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const TABLE = new Uint32Array(256).map((_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** A PNG (Blob): the index of a pixel is its class id, its colour the class's. palette: [r, g, b] by id. */
export async function encodeMask(mask, width, height, palette) {
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head.set([8, 3], 8); // 8 bits, with a palette
  const rows = new Uint8Array((width + 1) * height); // each begins with the number of its filter: none
  for (let y = 0; y < height; y++) rows.set(mask.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(packed).arrayBuffer());
  const parts = [chunk("IHDR", head), chunk("PLTE", Uint8Array.from(palette.flat())), chunk("IDAT", data), chunk("IEND", new Uint8Array())];
  return new Blob([Uint8Array.from(SIGNATURE), ...parts], { type: "image/png" });
}

function chunk(name, data) {
  const bytes = new Uint8Array(data.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(data, 8);
  let sum = 0xffffffff;
  for (const byte of bytes.subarray(4, data.length + 8)) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
  view.setUint32(data.length + 8, ~sum >>> 0);
  return bytes;
}
