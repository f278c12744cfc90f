/** Texts and values of unknown origin. */

export const LONGEST_LINE = 500;

/** Return a string, "" for anything else. */
export function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Replace line breaks and control characters, and cut off what is too long to read. */
export function oneLine(content: string): string {
  const line = content.replace(/[\p{C}\p{Z}]+/gu, " ").trim();
  return line.length <= LONGEST_LINE ? line : `${line.slice(0, LONGEST_LINE)}…`;
}
