/**
 * rowan snapshot, snapshots, rollback, discard, export.
 */
import { type Command, Option } from 'commander'
import { DISK_NAMES } from '../../src/disk/chain.ts'
import { EXPORT_FORMATS } from '../../src/machine/disk-export.ts'
import type { SnapshotRow } from '../../src/node/command-results.ts'
import { formatDuration, formatSize } from '../../src/node/units.ts'
import { givenPath, type Session } from '../session.ts'
import { table } from '../text.ts'

interface ExportOptions {
  format: string
  snapshot?: string
  disk: string
  web?: boolean
}

export function addSnapshot(program: Command, session: Session): void {
  program
    .command('snapshot')
    .description('Keep what the disks of a machine hold now; a guest may go on writing.')
    .argument('<machine>')
    .option('--note <text>', 'one line that says what it is')
    .addHelpText(
      'after',
      `
It takes the same moment however much was written. What a running guest has not yet written to its disk is not in it.

Examples:
  rowan snapshot worker
  rowan snapshot worker --note "before the update"`
    )
    .action(async (machine: string, { note = '' }: { note?: string }) => {
      const taken = await session.call('snapshot', { machine, ...(note === '' ? {} : { note }) })
      session.answer(taken, () => `${machine} has the snapshot ${taken.snapshot}`)
    })
}

export function addSnapshots(program: Command, session: Session): void {
  program
    .command('snapshots')
    .description('List the snapshots of a machine.')
    .argument('<machine>')
    .addHelpText(
      'after',
      `
WRITTEN is what was written between the snapshot below and this one. The machine as it is now goes on from those with
an asterisk; the others are of branches that a rollback has left.

Examples:
  rowan snapshots worker
  rowan snapshots worker --json | jq -r '.[-1].snapshot'`
    )
    .action(async (machine: string) => {
      const rows = await session.call('snapshots', { machine })
      session.answer(rows, () => (rows.length === 0 ? `${machine} has no snapshots` : snapshotTable(rows)))
    })
}

export function addRollback(program: Command, session: Session): void {
  program
    .command('rollback')
    .description('Take a machine back to a snapshot; what it is now is kept as a snapshot, too.')
    .argument('<machine>')
    .argument('<snapshot>')
    .addHelpText(
      'after',
      `
Nobody may be using the machine's disk.

Examples:
  rowan rollback worker s1`
    )
    .action(async (machine: string, snapshot: string) => {
      const back = await session.call('rollback', { machine, snapshot })
      session.answer(back, () => `${machine} is as it was at ${snapshot}; what it was before is ${back.left}`)
    })
}

export function addDiscard(program: Command, session: Session): void {
  program
    .command('discard')
    .description('Forget a snapshot of a machine; what only it needed is deleted.')
    .argument('<machine>')
    .argument('<snapshot>')
    .addHelpText(
      'after',
      `
The machine itself and its other snapshots stay as they are. What it has overwritten or trimmed since then
gives its space back a little later: what was kept apart is put together while nobody is at the disk.

Examples:
  rowan discard worker s1`
    )
    .action(async (machine: string, snapshot: string) => {
      const gone = await session.call('discard', { machine, snapshot })
      session.answer(gone, () => `${machine} has no snapshot ${snapshot} any more`)
    })
}

export function addExport(program: Command, session: Session): void {
  program
    .command('export')
    .description('Write the disk of a machine to a file that stands alone, or an image to files for a web server.')
    .argument('<machine>', 'with --web: an appliance and its version, like grid@v1')
    .argument('<file>', 'a file that does not exist yet; with --web: a folder')
    .addOption(
      new Option('--web', 'write an image that is complete here as static files: a web seed').conflicts([
        'format',
        'snapshot',
        'disk'
      ])
    )
    .addOption(new Option('--format <format>', 'of the file').choices(EXPORT_FORMATS).default('raw'))
    .option('--snapshot <snapshot>', 'as it was then (default: as it is now)')
    .addOption(new Option('--disk <disk>', 'which disk').choices(DISK_NAMES).default('system'))
    .addHelpText(
      'after',
      `
A guest may go on writing: the file has what the disk held when the command began; what is not here is fetched. Zeros
take no space in it.

With --web the folder gets one for the image, to be copied to any web server or object store that answers ranges. Name its
URL with \`rowan publish … --web-seed URL\`; several versions may share a folder.

Examples:
  rowan export worker worker.raw
  rowan export worker before.qcow2 --format qcow2 --snapshot s1
  rowan export --web grid@v1 /srv/www/images`
    )
    .action(async (machine: string, file: string, options: ExportOptions) => {
      if (options.web === true) return exportWeb(session, machine, givenPath(file))
      const { format, snapshot, disk } = options
      const done = await session.call('export', {
        ...{ machine, file: givenPath(file), format, disk },
        ...(snapshot === undefined ? {} : { snapshot })
      })
      session.answer(done, () => {
        const how = `${formatSize(done.data)} of ${formatSize(done.size)} in ${formatDuration(done.seconds * 1000)}`
        return `${done.file} has the ${disk} disk of ${machine} (${how})`
      })
    })
}

async function exportWeb(session: Session, appliance: string, folder: string): Promise<void> {
  const done = await session.call('export-web', { appliance, folder })
  session.answer(done, () => {
    const how = `${done.files} files, ${formatSize(done.bytes)} for ${formatSize(done.size)}, in ${formatDuration(done.seconds * 1000)}`
    return `${done.folder}/${done.image} has the image of ${done.appliance}@${done.version} (${how})`
  })
}

function snapshotTable(rows: SnapshotRow[]): string {
  const cells = rows.map(({ snapshot, taken, bytes, current, note }) => [
    `${snapshot}${current ? ' *' : ''}`,
    taken.slice(0, 19).replace('T', ' '),
    formatSize(bytes),
    note
  ])
  return table(['SNAPSHOT', 'TAKEN (UTC)', 'WRITTEN', 'NOTE'], cells)
}
