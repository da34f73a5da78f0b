/**
 * The rows of the wan bench that boot a guest.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { MachineStatus } from '../../src/node/command-results.ts'
import type { LineKind } from '../../test/tools/line.ts'
import type { Peer } from '../../test/tools/peers.ts'
import { waitUntil } from '../../test/tools/wait.ts'
import { bootGuest } from './guest.ts'
import type { Figure, Row } from './rows.ts'
import { bytesRead, floorSeconds } from './trace.ts'

/** The line that a row has unless it says otherwise. */
export const HOME_LINE: LineKind = { rttMs: 68, downMbit: 50, upMbit: 10 }
const SLOW_LINE: LineKind = { rttMs: 150, downMbit: 20, upMbit: 10 }
const FAST_LINE: LineKind = { rttMs: 23, downMbit: 100, upMbit: 10 }

const MACHINE = 'wan'
const LEAVING_MS = 3_000
/** Blocks that have come when a replica is taken away: about the middle of a boot. */
const MIDDLE_BLOCKS = 600
/** With a profile, most of the wait is over early: what may be waited beyond the floor, in seconds. */
const WITH_PROFILE_SECONDS = new Map([
  [HOME_LINE, 0.5],
  [SLOW_LINE, 1],
  [FAST_LINE, 0.3]
])
const WITHOUT_PROFILE_SECONDS = 15
const LONGEST_READ_SECONDS = 1
const LINK_BYTES_PER_READ_BYTE = 0.65

export const BOOT_ROWS: Row[] = [
  firstBoot('boot', HOME_LINE, true),
  firstBoot('boot-slow', SLOW_LINE, true),
  firstBoot('boot-fast', FAST_LINE, true),
  firstBoot('boot-bare', HOME_LINE, false),
  faultyBoot('killed', 'SIGKILL'),
  faultyBoot('stalled', 'SIGSTOP')
]

function firstBoot(name: string, line: LineKind, withProfile: boolean): Row {
  const goal = withProfile ? WITH_PROFILE_SECONDS.get(line)! : WITHOUT_PROFILE_SECONDS
  return {
    name,
    about: `first boot ${withProfile ? 'with' : 'without'} a profile, ${describe(line)}; then the second`,
    needsProfile: withProfile,
    async measure({ world, trace, touches }) {
      await world.setLine(line)
      const volunteer = await world.volunteer()
      const before = await world.line.count()
      const first = await bootGuest(volunteer, `${world.appliance}@v1`, MACHINE)
      const crossed = (await world.line.count()).downBytes - before.downBytes
      const { waited, fetched } = await machineOf(volunteer)
      const floor = floorSeconds(touches, line)
      // What lies behind the guest's writes comes as it leaves, for the next start.
      await sleep(LEAVING_MS)
      const between = await machineOf(volunteer)
      let after = between
      const second = await bootGuest(volunteer, MACHINE, MACHINE, undefined, async () => {
        after = await machineOf(volunteer)
      })
      await volunteer.stop()
      return [
        { name: 'disk wait', value: waited.seconds, atMost: floor + goal, unit: 's' },
        { name: 'floor', value: floor, unit: 's' },
        { name: 'longest demand read', value: waited.longestMs / 1000, unit: 's' },
        { name: 'wall', value: first.wallSeconds, unit: 's' },
        { name: 'wall ÷ local', value: first.wallSeconds / trace.wallSeconds, unit: '×' },
        { name: 'blocks fetched', value: fetched.blocks, unit: '' },
        {
          name: 'bytes over the line ÷ bytes read',
          value: crossed / bytesRead(trace),
          atMost: LINK_BYTES_PER_READ_BYTE,
          unit: '×'
        },
        { name: 'second boot: disk wait', value: after.waited.seconds - between.waited.seconds, atMost: 0, unit: 's' },
        { name: 'blocks fetched as the guest left', value: between.fetched.blocks - fetched.blocks, unit: '' },
        {
          name: 'second boot: blocks fetched',
          value: after.fetched.blocks - between.fetched.blocks,
          atMost: 0,
          unit: ''
        },
        { name: 'second boot: wall', value: second.wallSeconds, unit: 's' }
      ]
    }
  }
}

function faultyBoot(name: string, signal: 'SIGKILL' | 'SIGSTOP'): Row {
  return {
    name,
    about: `a replica ${name}${signal === 'SIGSTOP' ? ' without closing' : ''} in the middle of a boot, ${describe(HOME_LINE)}`,
    async measure({ world, touches }) {
      await world.setLine(HOME_LINE)
      const volunteer = await world.volunteer()
      const victim = world.replicas[1]!
      let isGone = false
      const figures: Figure[] = []
      try {
        await bootGuest(volunteer, `${world.appliance}@v1`, MACHINE, async () => {
          if (isGone) return
          const { fetched, waited } = await machineOf(volunteer)
          if (fetched.blocks < MIDDLE_BLOCKS) return
          isGone = true
          victim.process.kill(signal)
          figures.push({ name: 'longest read before', value: waited.longestMs / 1000, unit: 's' })
        })
        const { waited } = await machineOf(volunteer)
        await volunteer.stop()
        return [
          { name: 'longest demand read', value: waited.longestMs / 1000, atMost: LONGEST_READ_SECONDS, unit: 's' },
          { name: 'disk wait', value: waited.seconds, unit: 's' },
          { name: 'floor', value: floorSeconds(touches, HOME_LINE), unit: 's' },
          ...figures
        ]
      } finally {
        if (signal === 'SIGSTOP') victim.process.kill('SIGCONT')
        else {
          await victim.process.exited
          await victim.up()
          await victim.joined()
        }
      }
    }
  }
}

async function machineOf(peer: Peer): Promise<MachineStatus> {
  return await waitUntil('the machine', async () => (await peer.json(['status'])).machines[0] ?? NO_MACHINE, {
    timeoutMs: 30_000
  })
}

/** Until it is attached, which takes a second over a long line. */
const NO_MACHINE = {
  fetched: { blocks: 0, bytes: 0, wireBytes: 0 },
  waited: { seconds: 0, longestMs: 0, reads: 0 }
} as MachineStatus

export function describe({ rttMs, downMbit, upMbit }: LineKind): string {
  return `${rttMs} ms, ${downMbit}/${upMbit} Mbit/s`
}
