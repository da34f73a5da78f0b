/**
 * rowan follow, rowan replicate.
 */
import { type Command, Option } from 'commander'
import type { Session } from '../session.ts'
import { shortAppliance } from '../text.ts'

export function addFollow(program: Command, session: Session): void {
  program
    .command('follow')
    .description("Give somebody's appliance a name of its own here.")
    .argument('<publisher/name>', 'the appliance')
    .requiredOption('--as <alias>', 'the local name')
    .addHelpText(
      'after',
      `
Examples:
  rowan follow 12D3KooW…/grid --as grid`
    )
    .action(async (appliance: string, options: { as: string }) => {
      const followed = await session.call('follow', { appliance, alias: options.as })
      session.answer(followed, () => `${followed.alias} now means ${followed.appliance}`)
    })
}

export function addReplicate(program: Command, session: Session): void {
  program
    .command('replicate')
    .description('Keep the whole image of a version here and serve it to others, from now on.')
    .argument('<appliance>', 'PUBLISHER/NAME, a name of yours or an alias; @VERSION or :CHANNEL behind it')
    .option('--wait', 'return only when all of it is here')
    .option('--allow-expired', 'accept a record of the appliance that has expired')
    .addOption(
      new Option(
        '--end',
        'take it back: of the version named, or of all; the blocks make room when that is needed'
      ).conflicts(['wait', 'allowExpired'])
    )
    .addHelpText(
      'after',
      `
Examples:
  rowan replicate grid
  rowan replicate 12D3KooW…/grid@v2 --wait
  rowan replicate grid@v1 --end`
    )
    .action(async (appliance: string, options: { wait?: boolean; allowExpired?: boolean; end?: boolean }) => {
      if (options.end === true) {
        const answer = await session.call('replicate-end', { appliance })
        const versions = answer.ended.map(({ version }) => version).join(', ')
        session.answer(answer, () => `${shortAppliance(answer.appliance)} is not kept whole here any more: ${versions}`)
        return
      }
      const answer = await session.call('replicate', {
        appliance,
        wait: options.wait === true,
        allowExpired: options.allowExpired === true
      })
      session.answer(answer, () => {
        const what = `${shortAppliance(answer.appliance)}@${answer.version}`
        return answer.complete ? `${what} is complete here and served` : `${what} is being completed`
      })
    })
}
