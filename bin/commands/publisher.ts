/**
 * rowan publish, rowan releases.
 */
import { writeFile } from 'node:fs/promises'
import { type Command, InvalidArgumentError } from 'commander'
import { asRowanError, RowanError } from '../../src/errors.ts'
import { parseApplianceRef } from '../../src/image/names.ts'
import { webSeedUrl } from '../../src/image/web-seed.ts'
import type { ReleaseRow } from '../../src/node/command-results.ts'
import { formatDuration, formatSize } from '../../src/node/units.ts'
import { historyPlot } from '../plot.ts'
import { releasesText } from '../releases-view.ts'
import { givenPath, type Session } from '../session.ts'
import { counted, facts } from '../text.ts'

interface PublishOptions {
  channel?: string
  rollout?: number
  label?: Record<string, string>
  record?: boolean
  webSeed?: string[]
}

export function addPublish(program: Command, session: Session): void {
  program
    .command('publish')
    .description('Release a disk image as a version of an appliance of yours; returns when all of it is durable.')
    .argument('<image>', 'a raw or qcow2 file (qcow2 without backing or data file); it is only read')
    .argument('<name@version>', 'the appliance and the version, like grid@v1')
    .option(
      '--channel <name>',
      'point this channel to the version (default: stable for a new one, none for one that exists)'
    )
    .option(
      '--rollout <percent>',
      'give the version to this share of the peers; the others stay where they are',
      percent
    )
    .option('--label <name=value>', 'note something with the release (may be repeated)', label)
    .option('--record', 'boot the image once in QEMU, and ship the order in which it is read: others boot faster')
    .option('--web-seed <url>', 'a folder of `rowan export --web` on a web server, asked last (may be repeated)', seed)
    .addHelpText(
      'after',
      `
Examples:
  rowan publish disk.raw grid@v1
  rowan publish disk.raw grid@v1 --record
  rowan publish disk.qcow2 grid@v2 --channel testing
  rowan publish disk.raw grid@v2 --web-seed https://example.org/images/
  rowan publish disk.raw grid@v3 --rollout 10 --label ticket=42`
    )
    .action((image: string, ref: string, options: PublishOptions) => publish(session, image, ref, options))
}

async function publish(session: Session, image: string, text: string, options: PublishOptions): Promise<void> {
  const ref = parseApplianceRef(text)
  if (ref.version === undefined || ref.publisher !== undefined) {
    const says = `"${text}" does not name a version of an appliance of yours; write it like grid@v1`
    throw new RowanError('APPLIANCE_REF_INVALID', says)
  }
  const { channel, rollout, label: labels, webSeed: webSeeds } = options
  const published = await session.call('publish', {
    path: givenPath(image),
    name: ref.name,
    version: ref.version,
    ...(channel === undefined ? {} : { channel }),
    ...(rollout === undefined ? {} : { rollout }),
    ...(labels === undefined ? {} : { labels }),
    ...(options.record === true ? { record: true } : {}),
    ...(webSeeds === undefined ? {} : { webSeeds })
  })
  session.answer(
    published,
    () =>
      `${facts([
        ['published', `${published.appliance}@${published.version}`],
        ['image', published.image],
        [
          'size',
          `${formatSize(published.size)} in ${counted(published.blocks, 'block')}, ${published.blocks - published.zeroBlocks} of them with data`
        ],
        ['profile', published.profile ? 'the order in which a boot reads it comes with it' : 'none'],
        ['new', `${counted(published.newBlocks, 'block')} not here before`],
        ['took', formatDuration(published.seconds * 1000)]
      ])}\nOthers attach it with:  rowan attach ${published.appliance} --as MACHINE`
  )
}

export function addReleases(program: Command, session: Session): void {
  program
    .command('releases')
    .description(
      'Show the versions of an appliance, their channels, how many replicas there are and how many use them.'
    )
    .argument('<appliance>', 'PUBLISHER/NAME, or NAME for one of yours, or an alias')
    .option('--plot <file.svg>', 'draw how many used each version of yours, hour by hour; overwrites the file')
    .addHelpText(
      'after',
      `
The bar is the share of the most used version. HISTORY and COLLECTION are of your own appliances, known to a daemon that
has run for a while: one sample an hour, and what \`rowan gc\` would do.

Examples:
  rowan releases grid
  rowan releases grid --plot grid.svg
  rowan releases 12D3KooW…/grid --json`
    )
    .action(async (appliance: string, options: { plot?: string }) => {
      const plot = options.plot === undefined ? undefined : givenPath(options.plot)
      const rows = await session.call('releases', { appliance })
      if (plot !== undefined) await savePlot(plot, rows)
      session.answer(rows, () => releasesText(rows, Date.now()))
    })
}

async function savePlot(file: string, rows: ReleaseRow[]): Promise<void> {
  try {
    await writeFile(file, historyPlot(rows))
  } catch (error) {
    throw asRowanError(error, 'FILE_UNWRITABLE', `writing ${file}`)
  }
}

function percent(value: string): number {
  if (!/^\d{1,3}$/.test(value)) throw new InvalidArgumentError('It must be a whole number from 1 to 100.')
  return Number(value)
}

function seed(value: string, previous: string[] = []): string[] {
  return [...previous, webSeedUrl(value)]
}

function label(value: string, previous: Record<string, string> | undefined): Record<string, string> {
  const at = value.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('Write it like name=value.')
  return { ...previous, [value.slice(0, at)]: value.slice(at + 1) }
}
