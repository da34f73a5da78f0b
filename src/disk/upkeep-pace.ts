/**
 * When the background may work at the layers of a disk that a guest is using: never while it is.
 *
 * A pure step machine. After every piece (256 KiB at most) it is asked how long to wait. While requests come, the answer
 * is to look again a little later; once there were none for QUIET_MS, as long as the piece took, so that the store is never
 * busy for more than half of the time. If the layers come near their limit, a busy guest gets a piece each second
 * beside it all the same: being refused a snapshot would be worse.
 */

/** So long must a guest have been still. */
export const QUIET_MS = 300
/** So often a guest that is busy is looked at. */
const LOOK_MS = 100
/** With `urgent`: the longest wait for a guest to be still. */
const URGENT_WAIT_MS = 1000

export interface PaceState {
  /** Requests that the disk had had at the last look. */
  requests: number
  lastRequestMs: number
  lastPieceMs: number
}

export interface PaceLook {
  nowMs: number
  /** Requests that the disk has had. */
  requests: number
  /** What the last piece took; 0 at a second look. */
  workedMs: number
  /** The layers are near their limit. */
  urgent: boolean
}

export function beginPace(nowMs: number, requests: number): PaceState {
  return { requests, lastRequestMs: nowMs, lastPieceMs: nowMs }
}

/** @returns how long to wait before looking again; 0: do the next piece now */
export function nextWait(state: PaceState, look: PaceLook): { state: PaceState; waitMs: number } {
  const { nowMs, requests, workedMs, urgent } = look
  const lastRequestMs = requests === state.requests ? state.lastRequestMs : nowMs
  const seen = { requests, lastRequestMs, lastPieceMs: workedMs > 0 ? nowMs : state.lastPieceMs }
  if (workedMs > 0) return { state: seen, waitMs: workedMs }
  const isQuiet = nowMs - lastRequestMs >= QUIET_MS
  const isDue = urgent && nowMs - seen.lastPieceMs >= URGENT_WAIT_MS
  return isQuiet || isDue ? { state: seen, waitMs: 0 } : { state: seen, waitMs: LOOK_MS }
}
