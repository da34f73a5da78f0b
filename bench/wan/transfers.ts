/**
 * The rows of the wan bench that need no guest.
 */
import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { BLOCK_SIZE_BYTES } from '../../src/cluster.ts'
import { type LineKind, PERFECT } from '../../test/tools/line.ts'
import { NbdClient } from '../../test/tools/nbd-client.ts'
import type { Peer } from '../../test/tools/peers.ts'
import { runOk } from '../../test/tools/processes.ts'
import { median } from '../lib/stats.ts'
import { describe, HOME_LINE } from './boots.ts'
import type { Row } from './rows.ts'
import { distinctBlocks } from './trace.ts'

const FILL_TIMEOUT_MS = 300_000
/** Long, so that round trips are what is measured, and no rate. */
const ROUND_TRIP_LINE: LineKind = { rttMs: 300, downMbit: 0, upMbit: 0 }
const PROBES = 40
const PROBE_PAUSE_MS = 120

export const TRANSFER_ROWS: Row[] = [
  {
    name: 'round-trips',
    about: `serial round trips from attach to the first block, ${ROUND_TRIP_LINE.rttMs} ms and no limit of rate`,
    async measure({ world }) {
      await world.setLine(ROUND_TRIP_LINE)
      const volunteer = await world.volunteer()
      const startMs = performance.now()
      const disk = await attached(volunteer, `${world.appliance}@v1`)
      const attachedMs = performance.now() - startMs
      await disk.bytes(0, 4096)
      const firstMs = performance.now() - startMs
      disk.destroy()
      const trace = await volunteer.json(['status', '--trace', 'wan'] as unknown as ['trace'])
      await volunteer.stop()
      const { rttMs } = ROUND_TRIP_LINE
      // By the daemon's clock, from its getting the command; and by that of whoever types it, with the client's own start.
      const traced = (trace.firstBlock?.ms ?? Number.NaN) / rttMs
      console.log(
        trace.marks.map(({ what, atMs }) => `    ${(atMs / rttMs).toFixed(2).padStart(6)} RTT  ${what}`).join('\n')
      )
      return [
        { name: 'attach to first block, in the daemon', value: traced, atMost: 9, unit: 'RTT' },
        { name: 'with the command line and the client', value: firstMs / rttMs, atMost: 9, unit: 'RTT' },
        { name: 'of it until the command is done', value: attachedMs / rttMs, unit: 'RTT' }
      ]
    }
  },
  {
    name: 'demand-in-fill',
    about: `a demand read of one block while a fill runs at full rate, ${describe(HOME_LINE)}`,
    async measure({ world, v1 }) {
      await world.setLine(HOME_LINE)
      const volunteer = await world.volunteer()
      const reference = `${world.appliance}@v1`
      const disk = await attached(volunteer, reference)
      // A fill goes from the front; the last blocks are long in coming.
      const blocks = (await distinctBlocks(v1)).slice(-3000)
      const pick = () => blocks.splice(randomInt(blocks.length), 1)[0]!
      const alone = await probe(disk, pick)
      await volunteer.json(['replicate', reference])
      const before = await world.line.count()
      const startMs = performance.now()
      // Until the fill has found its rate.
      await sleep(3000)
      const beside = await probe(disk, pick)
      const { downBytes } = await world.line.count()
      const rate = (downBytes - before.downBytes) / (performance.now() - startMs)
      disk.destroy()
      await volunteer.stop()
      return [
        { name: 'added delay, p95', value: percentile(beside, 0.95) - percentile(alone, 0.95), atMost: 50, unit: 'ms' },
        { name: 'added delay, median', value: median(beside) - median(alone), unit: 'ms' },
        { name: 'alone, median', value: median(alone), unit: 'ms' },
        { name: 'alone, p95', value: percentile(alone, 0.95), unit: 'ms' },
        { name: 'beside the fill, median', value: median(beside), unit: 'ms' },
        { name: 'beside the fill, p95', value: percentile(beside, 0.95), unit: 'ms' },
        { name: 'the line was used at', value: (rate * 8) / 1000, atLeast: 0.8 * HOME_LINE.downMbit, unit: 'Mbit/s' }
      ]
    }
  },
  {
    name: 'upgrade',
    about: `v1 is here, v2 is completed, ${describe(HOME_LINE)}`,
    async measure({ world, v2 }) {
      await world.setLine(PERFECT)
      const volunteer = await world.volunteer()
      await volunteer.json(['replicate', `${world.appliance}@v1`, '--wait'], { timeoutMs: FILL_TIMEOUT_MS })
      const known = await world.publisher.json(['releases', world.appliance])
      if (!known.some(({ version }) => version === 'v2')) await world.publish(v2, 'v2')
      await world.setLine(HOME_LINE)
      await volunteer.stop()
      await volunteer.up()
      await volunteer.joined()
      await sleep(1000)
      const before = await world.line.count()
      const startMs = performance.now()
      await volunteer.json(['replicate', `${world.appliance}@v2`, '--wait'], { timeoutMs: FILL_TIMEOUT_MS })
      const seconds = (performance.now() - startMs) / 1000
      const megabytes = ((await world.line.count()).downBytes - before.downBytes) / 1e6
      await volunteer.stop()
      return [
        { name: 'bytes over the line', value: megabytes, atMost: 32, unit: 'MB' },
        { name: 'time', value: seconds, atMost: 6.9, unit: 's' }
      ]
    }
  },
  {
    name: 'loopback',
    about: 'complete fill on loopback from one replica, verified into the pool',
    async measure() {
      const output = await runOk('node', [join(import.meta.dirname, '../fill.ts'), '--json'])
      const runs = JSON.parse(output) as { megabytesPerSecond: number }[]
      const speeds = runs.map(({ megabytesPerSecond }) => megabytesPerSecond)
      return [
        { name: `median of ${runs.length} runs`, value: median(speeds), atLeast: 150, unit: 'MB/s' },
        { name: 'best', value: Math.max(...speeds), unit: 'MB/s' }
      ]
    }
  }
]

async function attached(peer: Peer, reference: string): Promise<NbdClient> {
  const { uri } = await peer.json(['attach', reference, '--as', 'wan'])
  return await NbdClient.open(new URL(uri).searchParams.get('socket')!, 'wan')
}

/** How long reads of one block each take, one after the other, in ms. */
async function probe(disk: NbdClient, pick: () => number): Promise<number[]> {
  const times: number[] = []
  for (let n = 0; n < PROBES; n++) {
    await sleep(PROBE_PAUSE_MS)
    const startMs = performance.now()
    await disk.bytes(pick() * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES)
    times.push(performance.now() - startMs)
  }
  return times
}

function percentile(values: number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
}
