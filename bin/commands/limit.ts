/**
 * rowan limit.
 */
import { type Command, Option } from 'commander'
import type { LimitResult } from '../../src/node/command-results.ts'
import type { Session } from '../session.ts'
import { facts } from '../text.ts'

interface LimitOptions {
  maxUpload?: string
  maxDownload?: string
  hours?: string
  metered?: 'on' | 'off'
  reset?: boolean
}

export function addLimit(program: Command, session: Session): void {
  program
    .command('limit')
    .description('Show or change how much of this line the peer takes, while it runs. Holds after a restart too.')
    .option('--max-upload <rate>', 'the most that is sent, such as 5Mbit; "unlimited"')
    .option('--max-download <rate>', 'the most that is fetched, also for a guest that waits')
    .option('--hours <hours>', 'when it may take part, such as 22:00-07:00,12:00-13:00; "always"')
    .addOption(new Option('--metered <on or off>', 'whether each byte costs money').choices(['on', 'off']))
    .option('--reset', 'give up what was changed here, and go by the configuration again')
    .addHelpText(
      'after',
      `
Outside the hours, and on a metered line, only what a guest waits for is fetched, and nobody beyond the local network is
served.

Examples:
  rowan limit
  rowan limit --max-upload 5Mbit --hours 22:00-07:00
  rowan limit --metered on
  rowan limit --reset`
    )
    .action(async ({ metered, reset = false, ...rates }: LimitOptions) => {
      const answer = await session.call('limit', {
        ...rates,
        reset,
        ...(metered !== undefined && { metered: metered === 'on' })
      })
      session.answer(answer, () => limitText(answer))
    })
}

function limitText(limits: LimitResult): string {
  const rate = (bytesPerSecond: number | null) =>
    bytesPerSecond === null ? 'unlimited' : `${Number(((bytesPerSecond * 8) / 1e6).toPrecision(3))} Mbit/s`
  const changed = (name: string) => (limits.changed.includes(name) ? ' (changed here)' : '')
  return facts([
    ['upload', `${rate(limits.maxUpload)}${changed('maxUpload')}`],
    ['as a courtesy', `${rate(limits.maxCourtesyUpload)} of that`],
    ['download', `${rate(limits.maxDownload)}${changed('maxDownload')}`],
    ['hours', `${limits.hours}${changed('hours')}`],
    ['metered', `${limits.metered ? 'yes' : 'no'}${changed('metered')}`],
    ['now', limits.quiet ? 'quiet: only for guests, and for the local network' : 'takes part']
  ])
}
