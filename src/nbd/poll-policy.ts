/**
 * Whether it pays to look for a lone client's next request instead of sleeping until it comes.
 *
 * A client with one request under way at a time waits, for each, until the thread that serves it was woken, which between two
 * processors takes as long as all the rest (measured for 4-KiB reads on a quiet machine: a median of 58 µs, and 32 without). A thread that
 * looks again and again for a moment has nothing to wake from. KVM does so for a guest that halts
 * (Documentation/virt/kvm/halt-polling.rst), Linux for sockets (net.core.busy_poll).
 *
 * It takes a processor that others may want, so it is done only where all of this holds: the last waits were short; looking
 * was worth it often enough, and little of the time went into looking in vain or for too long, which no order of requests can
 * change; and nobody else took the processor from us meanwhile.
 *
 * A step machine: `answered`, then `look` until it says no, or `arrived`.
 */

/** Longer than a client on another processor takes to be woken and to ask again. */
export const MAX_WAIT_MS = 0.1
/** In one wait, whatever the clock says. */
export const MAX_LOOKS = 200
/** So many waits in a row must have been short. */
export const SHORT_WAITS = 8
/**
 * What may be looked in vain: so much for each time that it was worth it (less than it saves), and this part of the time, to
 * try. What is left of it is kept up to a limit.
 */
export const HIT_WORTH_MS = 0.005
export const TRIAL_SHARE = 0.01
export const MAX_CREDIT_MS = 1.5
/**
 * What was found sooner cost little more than it saved. What took longer is charged with the rest: a client that thinks for longer
 * before each request would keep a processor busy for as long as it likes, to save a tenth of that.
 */
export const CHEAP_WAIT_MS = 0.03
/**
 * Two looks are some microseconds apart, and collecting garbage between them takes less than this. Where it is more, somebody
 * else had the processor: nobody looks for a while, and twice as long where that happens again soon.
 */
export const LOST_PROCESSOR_MS = 1
export const PAUSE_MS = 10
const MAX_PAUSE_MS = 1000
const SOON_MS = 100

export class PollPolicy {
  #shortWaits = 0
  #answeredMs: number | undefined
  /** When it looked last; undefined while it does not. */
  #lookedMs: number | undefined
  #looks = 0
  #pauseMs = PAUSE_MS
  #pausedUntilMs = Number.NEGATIVE_INFINITY
  #creditMs = 0
  #creditedMs = 0

  /** A client that had one request under way was answered. Returns whether to look for its next. */
  answered(nowMs: number): boolean {
    this.#answeredMs = nowMs
    const pays = this.#shortWaits >= SHORT_WAITS && nowMs >= this.#pausedUntilMs && this.#credit(nowMs) >= MAX_WAIT_MS
    this.#lookedMs = pays ? nowMs : undefined
    this.#looks = 0
    return pays
  }

  /** Nothing has come yet. Returns whether to look again. */
  look(nowMs: number): boolean {
    if (this.#lookedMs === undefined || this.#wasElsewhere(nowMs)) return false
    const waitedMs = nowMs - this.#answeredMs!
    if (waitedMs < MAX_WAIT_MS && this.#looks < MAX_LOOKS) {
      this.#lookedMs = nowMs
      this.#looks += 1
      return true
    }
    this.#giveUp(waitedMs)
    return false
  }

  /** Something has come, from whichever client. */
  arrived(nowMs: number): void {
    if (this.#answeredMs === undefined) return
    const waitedMs = nowMs - this.#answeredMs
    const isShort = waitedMs <= MAX_WAIT_MS
    this.#shortWaits = isShort ? this.#shortWaits + 1 : 0
    if (this.#lookedMs !== undefined && !this.#wasElsewhere(nowMs) && isShort) this.#found(waitedMs)
    this.#stop()
  }

  /** There is more than one request under way: who is busy does not wait long, and takes several at once if it is late. */
  crowded(): void {
    this.#shortWaits = 0
    this.#stop()
  }

  /** What was there at the first look would have been found without: so it is where several requests are on their way. */
  #found(waitedMs: number): void {
    this.#creditMs += this.#looks > 1 ? HIT_WORTH_MS : -HIT_WORTH_MS
    this.#creditMs -= Math.max(0, waitedMs - CHEAP_WAIT_MS)
  }

  #stop(): void {
    this.#answeredMs = undefined
    this.#lookedMs = undefined
  }

  #giveUp(vainMs: number): void {
    this.#creditMs -= vainMs
    this.#shortWaits = 0
    this.#lookedMs = undefined
  }

  /** Somebody else had the processor since the last look. */
  #wasElsewhere(nowMs: number): boolean {
    const lookedMs = this.#lookedMs!
    if (nowMs - lookedMs <= LOST_PROCESSOR_MS) return false
    const isSoon = nowMs - this.#pausedUntilMs < SOON_MS
    this.#pauseMs = isSoon ? Math.min(MAX_PAUSE_MS, this.#pauseMs * 2) : PAUSE_MS
    this.#pausedUntilMs = nowMs + this.#pauseMs
    this.#giveUp(lookedMs - this.#answeredMs!)
    return true
  }

  #credit(nowMs: number): number {
    this.#creditMs = Math.min(MAX_CREDIT_MS, this.#creditMs + (nowMs - this.#creditedMs) * TRIAL_SHARE)
    this.#creditedMs = nowMs
    return this.#creditMs
  }
}
