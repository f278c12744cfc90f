/** Lists that span pages. */

import { UnexpectedResponse } from "./errors.js";
import type { RequestOptions, Requester } from "./requester.js";

const LONGEST_PAGE = 100;

/** The elements of a list, fetched page by page while they are iterated over with `for await`. */
export class Pages<T> implements AsyncIterable<T> {
  readonly #requester: Requester;
  readonly #path: string;
  readonly #items: string;
  readonly #query: Query;
  readonly #options: RequestOptions;

  constructor(requester: Requester, path: string, items: string, query: Query, options: RequestOptions) {
    this.#requester = requester;
    this.#path = path;
    this.#items = items;
    this.#query = query;
    this.#options = options;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void> {
    for await (const page of this.pages()) yield* page;
  }

  /** Iterate over the pages. */
  pages(): AsyncGenerator<T[], void> {
    return this.#pages(this.#query.limit ?? Infinity);
  }

  /** Return the first element, or undefined if there is none. */
  async first(): Promise<T | undefined> {
    for await (const page of this.#pages(Math.min(this.#query.limit ?? 1, 1))) return page[0];
    return undefined;
  }

  async *#pages(limit: number): AsyncGenerator<T[], void> {
    let left = limit;
    let query: object | undefined = { per_page: Math.min(left, LONGEST_PAGE), ...this.#query, limit: undefined };
    while (query !== undefined && left > 0) {
      const page: Page = await this.#requester.object("GET", this.#path, this.#items, { query }, this.#options);
      const elements = page[this.#items];
      if (!Array.isArray(elements)) {
        throw new UnexpectedResponse(`GET ${this.#path}: the response cannot be read: ${this.#items} is no array.`);
      }
      const found = elements.slice(0, left) as T[];
      left -= found.length;
      // Only the query of the link: the key goes to the service that the client was configured for, whatever URL a
      // response names.
      const next = found.length ? page._links?.next?.href : undefined;
      query = next === undefined ? undefined : Object.fromEntries(new URL(next, this.#requester.url).searchParams);
      if (found.length) yield found;
    }
  }
}

interface Query {
  /** Maximum number of elements. Default: all. */
  limit?: number | undefined;
}

interface Page {
  [items: string]: unknown;
  _links?: { next?: { href: string } };
}
