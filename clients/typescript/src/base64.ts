/** Base64 by `atob` and `btoa`, which every runtime has. */

export function bytesToBase64(bytes: Uint8Array): string {
  let binary = "";
  // In parts: a call takes a limited number of arguments.
  for (let start = 0; start < bytes.length; start += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return btoa(binary);
}

/** Return what a text encodes, or undefined if it is no base64 in canonical form. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> | undefined {
  let binary;
  try {
    binary = atob(text);
  } catch {
    return undefined;
  }
  return btoa(binary) === text ? Uint8Array.from(binary, (character) => character.charCodeAt(0)) : undefined;
}
