/**
 * rowan key: the publisher's keys.
 *
 * show, export and import also work while no daemon runs; renew and rotate sign the releases anew, which is its work.
 */
import type { Command as Commander } from 'commander'
import { RowanError } from '../../src/errors.ts'
import type { KeyResult } from '../../src/node/command-results.ts'
import type { Command, Params } from '../../src/node/daemon-api.ts'
import { type HomePaths, makeHome } from '../../src/node/home.ts'
import { keyResult } from '../../src/node/key-result.ts'
import { lineLog, systemClock } from '../../src/node/system.ts'
import type { PublisherKeys } from '../../src/release/publisher-keys.ts'
import { givenPath, type Session } from '../session.ts'
import { facts } from '../text.ts'

export function addKey(program: Commander, session: Session): void {
  const key = program
    .command('key')
    .description('Look after the keys that your appliances are signed with.')
    .addHelpText(
      'after',
      `
The root key is your identity as a publisher: keep a copy, and better keep it only there. It permits the release key,
for a limited time, to sign releases.

Examples:
  rowan key show
  rowan key export /media/stick/root.key
  rowan key import /media/stick/root.key
  rowan key rotate                          the release key got into wrong hands: make another, revoke this one`
    )
  key
    .command('show')
    .description('Show who you are as a publisher, and until when the release key may sign.')
    .addHelpText('after', '\nExamples:\n  rowan key show')
    .action(() => withOrWithoutDaemon(session, 'key-show', {}, async keys => keyResult((await keys()).show())))
  key
    .command('export')
    .description('Write the root key to a file that must not exist yet.')
    .argument('<file>')
    .addHelpText('after', '\nExamples:\n  rowan key export /media/stick/root.key')
    .action((path: string) => {
      const file = givenPath(path)
      return withOrWithoutDaemon(session, 'key-export', { file }, async keys => {
        const opened = await keys()
        await opened.exportRoot(file)
        return { ...keyResult(opened.show()), file }
      })
    })
  key
    .command('import')
    .description('Bring a root key back.')
    .argument('<file>', 'as `rowan key export` wrote it')
    .option('--replace', "even if another publisher's key is here: it is lost")
    .addHelpText('after', '\nExamples:\n  rowan key import /media/stick/root.key')
    .action((path: string, options: { replace?: boolean }) => {
      const file = givenPath(path)
      const replace = options.replace === true
      return withOrWithoutDaemon(session, 'key-import', { file, replace }, async () => {
        const keys = await (await keysModule()).import(session.home.keys, file, components(), { replace })
        return keyResult(keys.show())
      })
    })
  key
    .command('renew')
    .description('Permit the release key to sign for another period; needs the root key.')
    .addHelpText('after', '\nExamples:\n  rowan key renew')
    .action(async () => show(session, await session.call('key-renew', {})))
  key
    .command('rotate')
    .description('Make a new release key and revoke the old one; needs the root key.')
    .addHelpText('after', '\nExamples:\n  rowan key rotate')
    .action(async () => show(session, await session.call('key-rotate', {})))
}

/** Asks the daemon, which has the keys in its memory; without one, works on the files. */
async function withOrWithoutDaemon<C extends Command>(
  session: Session,
  command: C,
  params: Params<C>,
  alone: (keys: () => Promise<PublisherKeys>) => Promise<KeyResult>
): Promise<void> {
  let result: KeyResult
  try {
    result = (await session.call(command, params)) as KeyResult
  } catch (error) {
    if (!(error instanceof RowanError) || error.code !== 'DAEMON_NOT_RUNNING') throw error
    const letGo = await takeHome(makeHome(session.home.directory))
    try {
      result = await alone(async () => (await keysModule()).open(session.home.keys, components()))
    } finally {
      await letGo()
    }
  }
  show(session, result)
}

/**
 * Keeps a daemon from starting meanwhile, as one that is about to answer keeps us from the keys: of a new home each would make its own.
 *
 * @returns what lets go of it
 * @throws RowanError HOME_IN_USE
 */
async function takeHome({ directory, catalog: folder }: HomePaths): Promise<() => Promise<void>> {
  const { Catalog } = await import('../../src/store/catalog.ts')
  try {
    const catalog = await Catalog.open(folder)
    return () => catalog.close()
  } catch (error) {
    if (error instanceof RowanError && error.code === 'HOME_IN_USE') {
      const says = `a daemon of ${directory} is starting, stopping or busy`
      throw new RowanError('HOME_IN_USE', `${says}; its keys are not touched beside it`, { cause: error })
    }
    // A catalog that is damaged, or has no room, keeps daemons from starting by itself, and nobody from his keys.
    return async () => undefined
  }
}

/** Loaded only where it is needed: with libp2p's keys it would take half of every other command's time. */
async function keysModule(): Promise<typeof PublisherKeys> {
  return (await import('../../src/release/publisher-keys.ts')).PublisherKeys
}

function components() {
  return { clock: systemClock, log: lineLog('warn') }
}

function show(session: Session, result: KeyResult): void {
  const { publisher, releaseKey, expires, root, file } = result
  session.answer(result, () =>
    facts([
      ['publisher', publisher],
      ['root key', root ? 'here' : 'elsewhere'],
      ['release key', releaseKey ?? 'none'],
      ['may sign until', expires ?? '-'],
      ...(file === undefined ? [] : [['written to', file] as [string, string]])
    ])
  )
}
