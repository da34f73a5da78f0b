/**
 * What a web seed needs of HTTP. The one that calls servers is node/http-network.ts.
 */

export interface WebRequest {
  url: string
  /** Just these bytes; absent: the whole file. */
  range?: { from: number; length: number }
  /** Of a whole file. */
  maxBytes: number
  signal: AbortSignal
}

export interface WebNetwork {
  /**
   * Asks for a file. The body gives as many bytes as were asked for and never more, else it throws; reading slowly holds the server
   * back.
   *
   * @returns undefined where the server says that there is no such file
   * @throws RowanError WEB_SEED_ADDRESS, WEB_SEED_UNREACHABLE, WEB_SEED_REFUSED, TIMEOUT_DIAL, TIMEOUT_RESPONSE, ABORTED; so does
   *   the body
   */
  get(request: WebRequest): Promise<AsyncIterable<Uint8Array> | undefined>
}
