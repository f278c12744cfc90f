/** Lists that span pages. */

import { UnexpectedResponse } from "./errors.js";
import type { RequestOptions, Requester } from "./requester.js";

const LONGEST_PAGE = 100;

/** The elements of a list, fetched page by page while they are iterated over with `for await`. */
export class Pages<T> implements AsyncIterable<T> {
  readonly #requester: Requester;
  readonly #list: List;

  constructor(requester: Requester, list: List) {
    this.#requester = requester;
    this.#list = list;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void> {
    for await (const page of this.pages()) yield* page;
  }

  /** Iterate over the pages. */
  pages(): AsyncGenerator<T[], void> {
    return this.#pages(this.#list.query.limit ?? Infinity);
  }

  /** Return the first element, or undefined if there is none. */
  async first(): Promise<T | undefined> {
    for await (const page of this.#pages(Math.min(this.#list.query.limit ?? 1, 1))) return page[0];
    return undefined;
  }

  async *#pages(limit: number): AsyncGenerator<T[], void> {
    const { path, items, options } = this.#list;
    let left = limit;
    let query: object | undefined = { per_page: Math.min(left, LONGEST_PAGE), ...this.#list.query, limit: undefined };
    while (query !== undefined && left > 0) {
      const page: Page = await this.#requester.object("GET", path, items, { query }, options);
      const elements = page[items];
      if (!Array.isArray(elements)) {
        throw new UnexpectedResponse(`GET ${path}: the response cannot be read: ${items} is no array.`);
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

interface List {
  path: string;
  /** The member of the response that has the elements. */
  items: string;
  /** `limit` is the maximum number of elements, which are all by default. */
  query: { limit?: number | undefined };
  options: RequestOptions;
}

type Page = Record<string, unknown> & { _links?: { next?: { href: string } } };
