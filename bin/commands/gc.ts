/**
 * rowan gc: remove versions that nobody uses any more.
 */
import type { Command } from 'commander'
import type { GcResult } from '../../src/node/command-results.ts'
import { formatDuration, formatSize } from '../../src/node/units.ts'
import type { Session } from '../session.ts'
import { counted, shortAppliance, table } from '../text.ts'

export function addGc(program: Command, session: Session): void {
  program
    .command('gc')
    .description('Remove versions of your appliances that nobody uses any more, and free unused blocks.')
    .option('--dry-run', 'only say what would go')
    .option('--force <version>', 'VERSION or NAME@VERSION: remove this one although it may be in use')
    .addHelpText(
      'after',
      `
A version goes when it was seen unused in every poll for as long as [gc] grace; \`rowan up\` polls all the time, and one
poll is never enough. What a channel points at, or a machine here is of, stays in any case. Machines elsewhere that are
of a removed version keep running from the blocks that they have.

Examples:
  rowan gc --dry-run
  rowan gc
  rowan gc --force grid@v1`
    )
    .action(async (options: { dryRun?: boolean; force?: string }) => {
      const { dryRun = false, force } = options
      const answer = await session.call('gc', { dryRun, ...(force === undefined ? {} : { force }) })
      session.answer(answer, () => gcText(answer, dryRun))
    })
}

function gcText({ removed, kept, freedBytes, unusedBytes, trash }: GcResult, dryRun: boolean): string {
  const parts: string[] = []
  if (removed.length > 0) {
    const rows = removed.map(({ appliance, version, freedBytes, forced }) => [
      `${shortAppliance(appliance)}@${version}`,
      `${formatSize(freedBytes)}${forced ? ', forced' : ''}`
    ])
    parts.push(table([dryRun ? 'WOULD GO' : 'REMOVED', 'FREES'], rows))
  }
  if (kept.length > 0) {
    const rows = kept.map(({ appliance, version, why }) => [`${shortAppliance(appliance)}@${version}`, why])
    parts.push(table(['KEPT', 'WHY'], rows))
  }
  const later = trash.map(({ appliance, version, leftSeconds }) => [
    `${shortAppliance(appliance)}@${version}`,
    leftSeconds === 0 ? 'now' : `in ${formatDuration(leftSeconds * 1000)}`
  ])
  if (later.length > 0) parts.push(table(['REMOVED BEFORE', 'BLOCKS GO'], later))
  const sum = `${formatSize(freedBytes)} ${dryRun ? 'would be ' : ''}freed`
  const unused = unusedBytes === 0 ? '' : `, ${formatSize(unusedBytes)} of it of no image, at once`
  parts.push(`${counted(removed.length, 'version')} ${dryRun ? 'would go' : 'removed'}; ${sum}${unused}`)
  return parts.join('\n\n')
}
