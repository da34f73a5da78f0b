/**
 * Credit: how many bytes of blocks a replica may send, beside what a guest waits for.
 *
 * A window of requests is no window of bytes. Who asks for a block does not know what it will cost on the wire, 1 KB or 64, and where
 * an image goes from texts to what is packed already, what is under way becomes eight times as much: 200 ms of queue were seen on a
 * home line, and whoever waited for a block waited behind it. Only the replica knows how large its answers are. So it is asked for
 * more than the window, and sends as far as its requester's credit goes (HTTP/2's flow control does the same, RFC 9113 section 5.2):
 *
 *     credit granted so far  =  bytes that came + window        (granted in steps of an eighth of the window)
 *
 * Demand needs no credit and uses it up like all else, so that it pushes the rest back. Bytes are those of whole BLOCK frames. For the
 * measurement of delays, a request that waited for credit counts from when the credit went out.
 *
 * Pure: the time comes with every call.
 */
import { MAX_CREDIT_BYTES } from './limits.ts'

const GRANT_SHARE = 1 / 8

/** The requester's side. */
export class CreditGrants {
  #receivedBytes = 0
  #grantedBytes = 0
  /** Where each grant ends, and when it went out; those that are used up are gone. */
  readonly #grants: { toBytes: number; atMs: number }[] = []

  /** @returns what to grant now; 0 while it is not worth a message */
  due(windowBytes: number): number {
    const bytes = Math.floor(this.#receivedBytes + windowBytes - this.#grantedBytes)
    return bytes >= windowBytes * GRANT_SHARE ? Math.min(bytes, MAX_CREDIT_BYTES) : 0
  }

  granted(bytes: number, nowMs: number): void {
    this.#grantedBytes += bytes
    this.#grants.push({ toBytes: this.#grantedBytes, atMs: nowMs })
  }

  /** @returns when the credit for this answer went out; undefined where it was sent without any */
  received(bytes: number): number | undefined {
    this.#receivedBytes += bytes
    while (this.#grants.length > 0 && this.#grants[0]!.toBytes < this.#receivedBytes) this.#grants.shift()
    return this.#grants[0]?.atMs
  }
}

/** The replica's side. A requester that never grants anything has no limit. */
export class Credit {
  #leftBytes = 0
  #isLimited = false

  /** Whether so much may be sent that no guest waits for. */
  covers(bytes: number): boolean {
    return !this.#isLimited || this.#leftBytes >= bytes
  }

  grant(bytes: number): void {
    this.#isLimited = true
    this.#leftBytes = Math.min(MAX_CREDIT_BYTES, this.#leftBytes + bytes)
  }

  sent(bytes: number): void {
    this.#leftBytes -= bytes
  }
}
