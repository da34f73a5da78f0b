/**
 * The commands put together, and what happens around each: global options, errors, exit status.
 */
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { asRowanError, errorKind, RowanError } from '../src/errors.ts'
import { addDoctor } from './commands/doctor.ts'
import { addGc } from './commands/gc.ts'
import { addKey } from './commands/key.ts'
import { addLimit } from './commands/limit.ts'
import { addAttach, addDetach, addRemove } from './commands/machines.ts'
import { addPublish, addReleases } from './commands/publisher.ts'
import { addRun } from './commands/run.ts'
import { addDiscard, addExport, addRollback, addSnapshot, addSnapshots } from './commands/snapshots.ts'
import { addStatus } from './commands/status.ts'
import { addUp } from './commands/up.ts'
import { addFollow, addReplicate } from './commands/volunteer.ts'
import { Session } from './session.ts'

const EXAMPLES = `
Examples:
  rowan up                                  run this computer's peer, until Ctrl-C
  rowan publish disk.raw grid@v1            release a disk image as version v1 of the appliance grid
  rowan follow 12D3KooW…/grid --as grid     give somebody's appliance a short name
  rowan run grid                            boot a machine of it, fetching what it touches
  rowan status                              peers, machines, transfers

\`rowan COMMAND --help\` says more. Every command but up, doctor and some of key needs a running \`rowan up\`.`

/** @returns the exit status */
export async function main(args: string[]): Promise<number> {
  const ownArgs = args.includes('--') ? args.slice(0, args.indexOf('--')) : args
  const session = new Session({ json: ownArgs.includes('--json'), version: readVersion() })
  const program = build(session)
  try {
    await program.parseAsync(args, { from: 'user' })
    await session.written()
    return session.exitStatus
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0
      // Without any command the help has been shown, on stderr.
      if (error.code === 'commander.help') {
        if (session.json) session.print(errorValue(new RowanError('USAGE', 'no command was given')))
        return 2
      }
      const says = error.message.replace(/^error: /, '').replaceAll('\n', ' ')
      return fail(session, new RowanError('USAGE', says))
    }
    return fail(session, asRowanError(error))
  }
}

/** The program, also for the tests of its help. */
export function build(session: Session): Command {
  const program = new Command('rowan')
    .description('Boot virtual machines from disk images that you have not downloaded: peer to peer, block by block.')
    .version(session.version)
    .option('--home <dir>', "the peer's folder (default: $ROWAN_HOME, else the user's data folder)")
    .option('--json', 'print one JSON value on stdout and nothing else')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: () => {} }) // main() prints errors
    .exitOverride()
    .addHelpText('after', EXAMPLES)
  program.hook('preAction', command => session.useHome(command.opts().home))
  for (const add of [addUp, addPublish, addReleases, addFollow, addRun, addAttach, addDetach, addRemove]) {
    add(program, session)
  }
  for (const add of [addSnapshot, addSnapshots, addRollback, addDiscard, addExport]) add(program, session)
  for (const add of [addReplicate, addGc, addLimit, addStatus, addKey, addDoctor]) add(program, session)
  return program
}

/** One line with the code, what to do on the next; with --json also a value on stdout. */
function fail(session: Session, error: RowanError): number {
  const { code, message } = error
  const { advice, exit = 1 } = errorKind(code)
  // A name of a file, or of what a peer sent, shall not command the terminal.
  session.say(`error: ${message.replaceAll(/\p{Cc}/gu, ' ')} [${code}]\n${advice}`)
  if (code === 'INTERNAL' && error.stack !== undefined) session.say(error.stack)
  if (session.json) session.print(errorValue(error))
  return exit
}

function errorValue({ code, message }: RowanError): string {
  return JSON.stringify({ error: { code, message, advice: errorKind(code).advice } })
}

function readVersion(): string {
  const packageFile = new URL('../package.json', import.meta.url)
  return (JSON.parse(readFileSync(packageFile, 'utf8')) as { version: string }).version
}
