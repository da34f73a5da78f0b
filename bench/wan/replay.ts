/**
 * A client that reads what a boot read, without a guest: the same reads with the same times to think, and the same reads at a time.
 *
 * A read goes out when the last read that had been answered before it in the trace is answered here, and as much later as it was
 * then. So a disk that is slow delays what comes behind, as it does with a guest.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { NbdClient } from '../../test/tools/nbd-client.ts'
import type { Peer } from '../../test/tools/peers.ts'
import type { BootTrace, TracedRead } from './trace.ts'

/** @returns seconds with a read pending on the network */
export async function replay(peer: Peer, reference: string, trace: BootTrace): Promise<number> {
  const { uri } = await peer.json(['attach', reference, '--as', 'replay'])
  const disk = await NbdClient.open(new URL(uri).searchParams.get('socket')!, 'replay')
  // On a slow line that many share, a read may take long.
  disk.answerTimeoutMs = 120_000
  const answeredMs: number[] = []
  const pending: Promise<void>[] = []
  const startMs = performance.now()
  const before = lastAnswered(trace.reads)
  try {
    for (const [n, read] of trace.reads.entries()) {
      const cause = before[n]
      if (cause !== undefined) await pending[cause]
      const thoughtMs = read.startMs - (cause === undefined ? 0 : trace.reads[cause]!.endMs)
      const dueMs = (cause === undefined ? startMs : answeredMs[cause]!) + thoughtMs
      const waitMs = dueMs - performance.now()
      if (waitMs > 0.5) await sleep(waitMs)
      pending.push(
        disk.bytes(read.offset, read.length).then(() => {
          answeredMs[n] = performance.now()
        })
      )
    }
    await Promise.all(pending)
  } finally {
    disk.destroy()
  }
  const machine = (await peer.json(['status'])).machines.find(({ name }) => name === 'replay')
  return machine?.waited.seconds ?? Number.NaN
}

/** For each read, the one among those before it that was answered last before it went out. */
function lastAnswered(reads: TracedRead[]): (number | undefined)[] {
  let answered: number | undefined
  let open: number[] = []
  return reads.map(({ startMs }, n) => {
    for (const other of open) {
      if (reads[other]!.endMs > startMs) continue
      if (answered === undefined || reads[other]!.endMs > reads[answered]!.endMs) answered = other
    }
    open = open.filter(other => reads[other]!.endMs > startMs)
    open.push(n)
    return answered
  })
}
