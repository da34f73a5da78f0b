/**
 * Asks many holders at once and stops as soon as enough is known.
 *
 * One slow or dead holder must not decide how long a search takes: every one has its own time-outs, a failure is part
 * of the result, and whoever has not answered when it is enough is left alone.
 */

import { asRowanError, type ErrorCode } from '../errors.ts'

export interface PollResult {
  /** Peer ids, in the order asked. */
  asked: string[]
  answered: number
  /** Who did not answer, and why; nobody who was only cut short. */
  failed: { peer: string; code: ErrorCode; message: string }[]
}

/**
 * @param ask - asks one holder and takes in its answer; its failure counts as that holder's
 * @param isEnough - looked at after every answer
 */
export async function pollHolders<H extends { peer: string }>(
  holders: readonly H[],
  ask: (holder: H, signal: AbortSignal) => Promise<void>,
  isEnough: (answered: number) => boolean,
  parent: AbortSignal
): Promise<PollResult> {
  const result: PollResult = { asked: holders.map(holder => holder.peer), answered: 0, failed: [] }
  const enough = new AbortController()
  const signal = AbortSignal.any([parent, enough.signal])
  const finished = Promise.withResolvers<void>()
  const stop = () => finished.resolve()
  signal.addEventListener('abort', stop, { once: true })
  const asks = holders.map(async holder => {
    try {
      await ask(holder, signal)
      result.answered++
      if (isEnough(result.answered)) enough.abort()
    } catch (cause) {
      if (enough.signal.aborted) return
      const { code, message } = asRowanError(cause, 'PEER_GONE')
      result.failed.push({ peer: holder.peer, code, message })
    }
  })
  void Promise.all(asks).then(stop)
  if (!signal.aborted) await finished.promise
  signal.removeEventListener('abort', stop)
  // Late answers are none of this result's.
  return { asked: result.asked, answered: result.answered, failed: [...result.failed] }
}
