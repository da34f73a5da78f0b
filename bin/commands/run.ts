/**
 * rowan run: attach a machine and boot it.
 *
 * QEMU is a child of this process, not of the daemon: a daemon that restarts only pauses the guest.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Command, Option } from 'commander'
import { RowanError } from '../../src/errors.ts'
import { parseApplianceRef } from '../../src/image/names.ts'
import { kvmIsFaster } from '../../src/machine/accelerator.ts'
import { kvmUsable, runGuest } from '../../src/machine/guest.ts'
import { type GuestNetwork, startGuestNetwork } from '../../src/machine/guest-network.ts'
import { socketOfUri } from '../../src/machine/machine-socket.ts'
import { choosesAccelerator, openings, type QemuNetwork, qemuCommand, shellLine } from '../../src/machine/qemu.ts'
import type { AttachResult } from '../../src/node/command-results.ts'
import { lineLog, readBootId, systemClock } from '../../src/node/system.ts'
import { formatDuration } from '../../src/node/units.ts'
import { claimGuest, type GuestClaim } from '../guest-claim.ts'
import type { Session } from '../session.ts'
import { shortAppliance } from '../text.ts'
import { dataDiskOption } from './machines.ts'

/** How long whoever is at a machine's disk may take to leave, and how often it is looked. */
const LEAVING_MS = 3_000
const LOOK_MS = 200

interface RunOptions {
  as?: string
  net: QemuNetwork['mode']
  allowExpired?: boolean
  verbose?: boolean
  dataDisk?: number
}

export function addRun(program: Command, session: Session): void {
  program
    .command('run')
    .description('Attach a machine and boot it in QEMU, sandboxed; returns when the guest is gone.')
    .argument('<machine or appliance>', 'a machine that exists; else an appliance, whose machine is created')
    .argument('[qemu args...]', 'behind --: options for QEMU, which take the place of ours')
    .option('--as <machine>', "the machine's name (default: the appliance's)")
    .addOption(
      new Option('--net <mode>', 'none; restricted: a network card without anybody; user: other hosts, not this one')
        .choices(['none', 'restricted', 'user'])
        .default('none')
    )
    .option('--allow-expired', 'accept a record of the appliance that has expired')
    .addOption(dataDiskOption())
    .option('--verbose', 'show the QEMU command')
    .addHelpText(
      'after',
      `
The guest's serial console is this terminal (Ctrl-A X ends the guest); there is no network unless --net says so.
SIGINT or SIGTERM ends the guest when its disk has all that it wrote; a second one ends it at once.

Examples:
  rowan run grid
  rowan run grid@v2 --as test --net user
  rowan run test -- -m 4096 -smp 2
  rowan run test -- -serial file:console.log -vnc :1`
    )
    .action((target: string, extra: string[], options: RunOptions) => run(session, target, extra, options))
}

async function run(session: Session, target: string, extra: string[], options: RunOptions): Promise<void> {
  if (extra.length > 0 && !process.argv.includes('--')) {
    throw new RowanError('USAGE', `"${extra[0]}" was not expected; options for QEMU stand behind --`)
  }
  const attached = await attach(session, target, options)
  const claim = await beAlone(session, attached)
  const log = lineLog('warn', line => process.stderr.write(line))
  const signals = untilSignal()
  let starting: Promise<GuestNetwork> | undefined
  try {
    if (options.net === 'user') starting = startGuestNetwork({ clock: systemClock, log })
    const relay = await Promise.race([starting, signals.came])
    const probe = { file: session.home.accelerator, bootId: readBootId() }
    const command = qemuCommand({
      machine: attached.machine,
      socketPath: socketOfUri(attached.uri),
      readOnly: attached.readOnly,
      dataDisk: attached.data !== undefined,
      network: relay === undefined ? { mode: options.net as 'none' } : { mode: 'user', socketPath: relay.socketPath },
      kvm:
        !choosesAccelerator(extra) &&
        kvmUsable() &&
        (await Promise.race([kvmIsFaster({ clock: systemClock, log }, probe), signals.came])),
      terminal: process.stdin.isTTY === true,
      extra
    })
    const open = openings(extra)
    if (open.length > 0) session.say(`note: ${open.join(', ')} may open the guest to this host or the network`)
    if (options.verbose === true) session.say(shellLine(command))
    const running = runGuest({ clock: systemClock }, { ...command, consoleToStderr: session.json })
    // From here on it hears of them itself.
    signals.ignore()
    const end = await running
    if (end.exit !== 0) session.exitStatus = 1
    session.answer({ ...attached, ...end }, () => {
      const how = end.exit === 0 ? '' : ` with status ${end.exit}`
      return `the guest of ${attached.machine} left${how} after ${formatDuration(end.seconds * 1000)}`
    })
  } finally {
    signals.ignore()
    const relay = await starting?.catch(() => undefined)
    relay?.stop()
    claim?.release()
  }
}

/**
 * Before there is a guest to pass signals on to, one ends what is being prepared, and not this process: what was made for the guest
 * goes first. A second one does not wait for that.
 */
function untilSignal(): { came: Promise<never>; ignore(): void } {
  const { promise: came, reject } = Promise.withResolvers<never>()
  // Nobody may be waiting for it.
  came.catch(() => undefined)
  const end = (signal: string) => reject(new RowanError('ABORTED', `${signal} came before there was a guest`))
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const name of names) process.once(name, end)
  return {
    came,
    ignore: () => {
      for (const name of names) process.off(name, end)
    }
  }
}

/**
 * Two guests that write to one file system destroy it.
 *
 * @returns what keeps others away; undefined where there is no need. @throws RowanError MACHINE_RUNNING
 */
async function beAlone(session: Session, attached: AttachResult): Promise<GuestClaim | undefined> {
  const { machine, readOnly } = attached
  if (readOnly) return undefined
  const { directory } = session.home
  let { clients } = attached
  let claim = await claimGuest(directory, machine)
  // The guest before may be leaving just now.
  for (let waitedMs = 0; (claim === undefined || clients > 0) && waitedMs < LEAVING_MS; waitedMs += LOOK_MS) {
    await sleep(LOOK_MS)
    claim ??= await claimGuest(directory, machine)
    const { machines } = await session.call('status', {})
    clients = machines.find(({ name }) => name === machine)?.clients ?? clients
  }
  if (claim === undefined) {
    throw new RowanError('MACHINE_RUNNING', `another \`rowan run\` has ${machine}, or is about to`)
  }
  if (clients === 0) return claim
  const says = `${machine} has a client at its disk already, perhaps another guest`
  throw new RowanError('MACHINE_RUNNING', `${says}; \`rowan attach\` gives its disk to several`)
}

/** The machine of this name if there is one; else one made of the appliance. */
async function attach(session: Session, target: string, options: RunOptions): Promise<AttachResult> {
  const allowExpired = options.allowExpired === true
  const data = options.dataDisk === undefined ? {} : { dataDisk: options.dataDisk }
  if (options.as === undefined && (await isMachine(session, target))) {
    return await session.call('attach', { machine: target, allowExpired, ...data })
  }
  const machine = options.as ?? parseApplianceRef(target).name
  const attached = await session.call('attach', { machine, appliance: target, allowExpired, ...data })
  if (attached.created)
    session.say(`new machine ${machine} of ${shortAppliance(attached.appliance)}@${attached.version}`)
  return attached
}

async function isMachine(session: Session, name: string): Promise<boolean> {
  const { machines } = await session.call('status', {})
  return machines.some(machine => machine.name === name)
}
