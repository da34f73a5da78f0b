/**
 * rowan status.
 */

import { setTimeout } from 'node:timers/promises'
import type { Command } from 'commander'
import { RowanError } from '../../src/errors.ts'
import type { MachineStatus, StatusResult, TraceResult } from '../../src/node/command-results.ts'
import { formatDuration, formatSize } from '../../src/node/units.ts'
import type { Session } from '../session.ts'
import { showWatch, WATCH_INTERVAL_MS, watchText } from '../status-watch.ts'
import { counted, facts, shortAppliance, table } from '../text.ts'

export function addStatus(program: Command, session: Session): void {
  program
    .command('status')
    .description('Show the peer, its machines, what was fetched, and the pool.')
    .option('--watch', 'show rates, who serves, what is waiting and how far boots are, every second until Ctrl-C')
    .option('--trace <machine>', "show how a machine's last start went, from attach to the first block")
    .addHelpText(
      'after',
      `
With --watch, --json gives one value a second, each on a line.

Examples:
  rowan status
  rowan status --watch
  rowan status --trace grid
  rowan status --json | jq .machines`
    )
    .action(async ({ watch, trace }: { watch?: boolean; trace?: string }) => {
      if (watch === true && trace !== undefined) throw new RowanError('USAGE', '--watch and --trace exclude each other')
      if (trace !== undefined) {
        const result = await session.call('trace', { machine: trace })
        session.answer(result, () => traceText(result))
        return
      }
      if (watch === true) return await watchStatus(session)
      const status = await session.call('status', {})
      session.answer(status, () => statusText(status))
    })
}

function statusText(status: StatusResult): string {
  const { blocks, bytes, quotaBytes, pinnedBytes } = status.pool
  const quota = quotaBytes === null ? '' : ` of ${formatSize(quotaBytes)}`
  const parts = [
    facts([
      ['peer', status.peer],
      ['publisher', status.publisher],
      ['addresses', status.addresses],
      ['reachable', status.reachability.sentence],
      ['connected', counted(status.peers, 'peer')],
      ['pool', `${counted(blocks, 'block')}, ${formatSize(bytes)}${quota}, ${formatSize(pinnedBytes)} pinned`]
    ])
  ]
  if (status.machines.length > 0) parts.push(machineTable(status.machines))
  if (status.replicating.length > 0) {
    const rows = status.replicating.map(({ appliance, version, local }) => [
      `${shortAppliance(appliance)}@${version}`,
      share(local)
    ])
    parts.push(table(['REPLICA OF', 'LOCAL'], rows))
  }
  return parts.join('\n\n')
}

/** Ends with Ctrl-C, or with the daemon. */
async function watchStatus(session: Session): Promise<void> {
  let before: { status: StatusResult; atMs: number } | undefined
  for (;;) {
    const status = await session.call('status', {})
    const now = { status, atMs: performance.now() }
    const seconds = before === undefined ? 0 : (now.atMs - before.atMs) / 1000
    if (session.json) session.print(JSON.stringify(status))
    else showWatch(watchText(status, before?.status, seconds), process.stdout)
    await session.written()
    before = now
    await setTimeout(WATCH_INTERVAL_MS)
  }
}

export function traceText({ machine, rttMs, marks, firstBlock, budgetRoundTrips }: TraceResult): string {
  if (marks.length === 0) return `${machine} was not attached since the daemon started`
  const trips = (count: number | null) => (count === null ? '-' : count.toFixed(1))
  const rows = marks.map(({ what, atMs, roundTrips, peer }) => [
    atMs.toFixed(0),
    trips(roundTrips),
    what,
    peer === undefined ? '' : `…${peer.slice(-8)}`
  ])
  const end =
    firstBlock === null
      ? 'no block had to be fetched yet'
      : `first block after ${firstBlock.ms.toFixed(0)} ms` +
        (firstBlock.roundTrips === null
          ? ''
          : `: ${trips(firstBlock.roundTrips)} round trips of ${rttMs?.toFixed(0)} ms; the budget is ${budgetRoundTrips}`)
  return `${table(['MS', 'ROUND TRIPS', 'WHAT', 'PEER'], rows)}\n\n${end}`
}

function machineTable(machines: MachineStatus[]): string {
  const header = ['MACHINE', 'RELEASE', 'STATE', 'LOCAL', 'WRITTEN', 'FETCHED', 'ON THE WIRE', 'WAITED', 'LONGEST']
  const rows = machines.map(machine => [
    machine.name,
    machine.appliance === '' ? '?' : `${shortAppliance(machine.appliance)}@${machine.version}`,
    stateOf(machine),
    share(machine.local),
    formatSize(machine.layerBytes),
    formatSize(machine.fetched.bytes),
    formatSize(machine.fetched.wireBytes),
    formatDuration(machine.waited.seconds * 1000),
    formatDuration(machine.waited.longestMs)
  ])
  const broken = machines.flatMap(({ name, error }) => (error ? [`${name}: ${error.message} [${error.code}]`] : []))
  return [table(header, rows), ...broken].join('\n')
}

function stateOf({ error, attached, readOnly, clients }: MachineStatus): string {
  if (error !== undefined) return error.code
  if (!attached) return 'detached'
  return `${clients > 0 ? 'in use' : 'attached'}${readOnly ? ', read-only' : ''}`
}

/** Of the blocks that are not zero. */
function share({ blocks, of }: { blocks: number; of: number }): string {
  return of === 0 ? '-' : `${Math.floor((100 * blocks) / of)} % (${blocks}/${of})`
}
