/**
 * rowan status.
 */
import type { Command } from 'commander'
import type { MachineStatus, StatusResult } from '../../src/node/daemon-api.ts'
import { formatDuration, formatSize } from '../../src/node/units.ts'
import type { Session } from '../session.ts'
import { counted, facts, shortAppliance, table } from '../text.ts'

export function addStatus(program: Command, session: Session): void {
  program
    .command('status')
    .description('Show the peer, its machines, what was fetched, and the pool.')
    .addHelpText(
      'after',
      `
Examples:
  rowan status
  rowan status --json | jq .machines`
    )
    .action(async () => {
      const status = await session.call('status', {})
      session.answer(status, () => statusText(status))
    })
}

export function statusText(status: StatusResult): string {
  const { blocks, bytes, quotaBytes, pinnedBytes } = status.pool
  const quota = quotaBytes === null ? '' : ` of ${formatSize(quotaBytes)}`
  const parts = [
    facts([
      ['peer', status.peer],
      ['publisher', status.publisher],
      ['addresses', status.addresses],
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

function machineTable(machines: MachineStatus[]): string {
  const header = ['MACHINE', 'RELEASE', 'STATE', 'LOCAL', 'FETCHED', 'ON THE WIRE', 'WAITED', 'LONGEST']
  const rows = machines.map(machine => [
    machine.name,
    machine.appliance === '' ? '?' : `${shortAppliance(machine.appliance)}@${machine.version}`,
    stateOf(machine),
    share(machine.local),
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
