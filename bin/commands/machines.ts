/**
 * rowan attach, rowan detach, rowan remove.
 */
import { createInterface } from 'node:readline/promises'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { RowanError } from '../../src/errors.ts'
import type { AttachResult } from '../../src/node/command-results.ts'
import type { Params } from '../../src/node/daemon-api.ts'
import { formatSize, parseSize } from '../../src/node/units.ts'
import type { Session } from '../session.ts'
import { facts } from '../text.ts'

interface AttachOptions {
  as?: string
  readOnly?: boolean
  allowExpired?: boolean
  dataDisk?: number
  tcp?: string
}

export function addAttach(program: Command, session: Session): void {
  program
    .command('attach')
    .description("Serve a machine's disk over NBD; a machine that is new is created from the appliance.")
    .argument(
      '<machine or appliance>',
      'a machine that exists; with --as PUBLISHER/NAME, a name of yours or an alias; @VERSION or :CHANNEL behind it'
    )
    .option('--as <machine>', "the machine's name; a new one needs it")
    .option('--read-only', 'refuse writes')
    .option('--allow-expired', 'accept a record of the appliance that has expired')
    .addOption(dataDiskOption())
    .option('--tcp <[host:]port>', 'serve it over TCP, too, behind TLS; none: no more')
    .addHelpText(
      'after',
      `
A machine that exists keeps its version and needs no network. Its writes stay in its own layer.

Examples:
  rowan attach grid --as worker
  rowan attach worker                       again, after it was detached
  rowan attach grid --as worker --data-disk 20GB
  rowan attach 12D3KooW…/grid@v2 --as old --read-only
  rowan attach grid --as worker --tcp 192.0.2.7:10809
  qemu-img info "$(rowan attach grid --as worker --json | jq -r .uri)"`
    )
    .action(async (target: string, options: AttachOptions) => {
      const how = {
        allowExpired: options.allowExpired === true,
        ...(options.dataDisk === undefined ? {} : { dataDisk: options.dataDisk }),
        ...(options.tcp === undefined ? {} : { tcp: options.tcp })
      }
      const readOnly = options.readOnly === true
      const attached =
        options.as === undefined
          ? await attachAgain(session, target, { ...how, ...(readOnly ? { readOnly } : {}) })
          : await session.call('attach', { machine: options.as, appliance: target, readOnly, ...how })
      session.answer(attached, () =>
        facts([
          [
            'machine',
            `${attached.machine}${attached.created ? ' (new)' : ''}${attached.readOnly ? ', read-only' : ''}`
          ],
          ['appliance', `${attached.appliance}@${attached.version}`],
          ['size', formatSize(attached.size)],
          ['disk', attached.uri],
          ...(attached.data === undefined ? [] : [dataFact(attached.data)]),
          ...(attached.tcpUri === null ? [] : [['over TLS', attached.tcpUri] as [string, string]])
        ])
      )
    })
}

/** Of a machine that exists; as read-only as it was, unless told otherwise. */
async function attachAgain(
  session: Session,
  machine: string,
  how: Omit<Params<'attach'>, 'machine' | 'appliance'>
): Promise<AttachResult> {
  try {
    return await session.call('attach', { machine, ...how })
  } catch (error) {
    if (!(error instanceof RowanError) || !['MACHINE_UNKNOWN', 'NAME_INVALID'].includes(error.code)) throw error
    const says = `there is no machine "${machine}"; a new one of an appliance needs a name: --as MACHINE`
    throw new RowanError('USAGE', says, { cause: error })
  }
}

/** A second, empty disk. */
export function dataDiskOption(): Option {
  return new Option('--data-disk <size>', 'a second, empty disk of this size, made if the machine has none').argParser(
    text => {
      try {
        const bytes = parseSize(text)
        if (Number.isFinite(bytes)) return bytes
      } catch (error) {
        if (!(error instanceof TypeError)) throw error
      }
      throw new InvalidArgumentError('Write it like 20GB or 64GiB.')
    }
  )
}

function dataFact({ size, uri }: { size: number; uri: string }): [string, string] {
  return ['data disk', `${formatSize(size)}, ${uri}`]
}

export function addDetach(program: Command, session: Session): void {
  program
    .command('detach')
    .description("Stop serving a machine's disk; the machine and its writes are kept.")
    .argument('<machine>')
    .addHelpText(
      'after',
      `
Examples:
  rowan detach worker`
    )
    .action(async (machine: string) => {
      session.answer(await session.call('detach', { machine }), () => `${machine} is detached; its writes are kept`)
    })
}

export function addRemove(program: Command, session: Session): void {
  program
    .command('remove')
    .description('Forget a machine with everything that was written to it.')
    .argument('<machine>')
    .option('--yes', 'do not ask')
    .option('--force', 'even while its disk is in use')
    .addHelpText(
      'after',
      `
Examples:
  rowan remove worker
  rowan remove worker --yes                 for scripts`
    )
    .action(async (machine: string, options: { yes?: boolean; force?: boolean }) => {
      if (options.yes !== true && !(await confirmed(machine))) throw new RowanError('ABORTED', `${machine} is kept`)
      const removed = await session.call('remove', { machine, force: options.force === true })
      session.answer(removed, () => `${machine} and its writes are gone`)
    })
}

async function confirmed(machine: string): Promise<boolean> {
  if (process.stdin.isTTY !== true) {
    throw new RowanError('USAGE', `removing ${machine} needs a terminal to ask on, or --yes`)
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    // Where nobody answers any more (Ctrl-D), the question alone would never end.
    const nobody = new Promise<string>(resolve => terminal.once('close', () => resolve('')))
    const question = terminal.question(`Remove ${machine} with all that was written to it? [y/N] `)
    return /^y(es)?$/i.test((await Promise.race([question, nobody])).trim())
  } finally {
    terminal.close()
  }
}
