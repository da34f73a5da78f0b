/**
 * What a person reads at the end of the demo.
 */
import { relative } from 'node:path'
import type { AttachResult, MachineStatus, PublishResult, StatusResult } from '../../src/node/command-results.ts'
import type { Appliance } from './appliance.ts'
import { type BootOutcome, writtenBytes } from './boot.ts'
import { DemoError } from './children.ts'
import type { DemoPeer } from './peers.ts'
import { formatBytes, formatSeconds } from './progress.ts'

export interface DemoRun {
  appliance: Appliance
  /** Whether the guest ran with KVM. */
  kvm: boolean
  published: PublishResult
  attached: AttachResult
  attachMs: number
  boot: BootOutcome
  machine: MachineStatus
  peers: { publisher: DemoPeer; replica: DemoPeer; volunteer: DemoPeer }
  /** What the volunteer had from each replica. */
  sources: Source[]
  totalMs: number
}

export interface Source {
  role: string
  peer: string
  blocks: number
  bytes: number
}

const BLOCK_BYTES = 64 * 1024

const QUIET_MS = 200
const MAX_LOOKS = 25

/** The volunteer's status when nothing is fetched any more: what lies behind the guest's last writes comes after it has gone. */
export async function quietStatus(
  volunteer: DemoPeer,
  name: string
): Promise<{ machine: MachineStatus; exchanging: StatusResult['exchanging'] }> {
  let blocks = -1
  for (let looks = 0; ; looks++) {
    const { machines, exchanging } = await volunteer.status()
    const machine = machines.find(each => each.name === name)
    if (machine === undefined) throw new DemoError(`the volunteer does not know its machine ${name} any more`)
    if (machine.fetched.blocks === blocks || looks === MAX_LOOKS) return { machine, exchanging }
    blocks = machine.fetched.blocks
    await new Promise(resolve => setTimeout(resolve, QUIET_MS))
  }
}

/** What the volunteer fetched from each of the two that could serve it, as it counts itself. */
export function sourcesOf(exchanging: StatusResult['exchanging'], replicas: DemoPeer[]): Source[] {
  return replicas.map(({ role, up }) => {
    const row = exchanging.find(({ peer }) => peer === up.peer)
    return { role, peer: up.peer, blocks: row?.fetched.blocks ?? 0, bytes: row?.fetched.bytes ?? 0 }
  })
}

export function reportOf(run: DemoRun): string {
  const { published, boot, peers } = run
  const { fetched, waited } = run.machine
  const dataBlocks = published.blocks - published.zeroBlocks
  const share = (part: number, whole: number) => `${((100 * part) / Math.max(1, whole)).toFixed(1)} %`
  const here = (path: string) => {
    const short = relative(process.cwd(), path)
    return short.startsWith('..') ? path : short
  }
  const home = (peer: DemoPeer) => here(peer.home)
  const { machine } = run.attached
  const accel = run.kvm ? '' : ' -- -accel tcg,thread=multi'
  const commands = [
    ['status', 'peers, machines, what is here'],
    [`run ${machine}${accel}`, 'your machine again, its writes still there; Ctrl-A X ends it'],
    [`attach ${run.appliance.name} --as second`, 'another disk, in a moment'],
    [`replicate ${run.appliance.name} --wait`, 'all of it; then it needs no network']
  ] as const
  const lines = [
    `The machine was ready after ${formatSeconds(boot.readyMs)} (${boot.noticed}).`,
    '',
    `Image      ${published.appliance}@${published.version}`,
    `           ${formatBytes(published.size)}, of which ${formatBytes(dataBlocks * BLOCK_BYTES)} are data (${dataBlocks} blocks); published in ${published.seconds.toFixed(1)} s`,
    `Found      in ${formatSeconds(run.attachMs)}, in the DHT, by a peer that had nothing of it`,
    `Fetched    ${fetched.blocks} blocks, ${formatBytes(fetched.bytes)} (${formatBytes(fetched.wireBytes)} on the wire): ${share(fetched.bytes, published.size)} of the disk, ${share(fetched.blocks, dataBlocks)} of its data`,
    ...run.sources.map(
      source =>
        `           ${String(source.blocks).padStart(6)} blocks, ${formatBytes(source.bytes).padStart(9)}  from the ${source.role}`
    ),
    `Waited     ${waited.seconds.toFixed(1)} s in all for the network (${waited.reads} reads, the longest ${Math.round(waited.longestMs)} ms)`,
    `Written    ${formatBytes(writtenBytes(peers.volunteer.home, machine))} by the guest, into its own layer; the image is as it was`,
    `All of it  took ${formatSeconds(run.totalMs)}`,
    '',
    'Where things are',
    `  homes      ${home(peers.publisher)}, ${home(peers.replica)}, ${home(peers.volunteer)}`,
    `  logs       ${here(peers.publisher.logFile)} and the like`,
    `  console    ${here(boot.consoleFile)}`,
    `  layer      ${home(peers.volunteer)}/machines/${machine}/layers/0001`,
    `  image      ${here(run.appliance.file)}`,
    '',
    'What to try next: `npm run demo -- --keep` leaves the peers running until Ctrl-C; then, in another terminal,',
    ...commands.map(([command, why]) => `  npx rowan --home ${home(peers.volunteer)} ${command.padEnd(46)}  # ${why}`),
    '  npm run demo -- --image FILE  boots a disk of your own, raw or qcow2.'
  ]
  return lines.map(line => (line === '' ? '' : `  ${line}`)).join('\n')
}
