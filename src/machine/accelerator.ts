/**
 * Whether KVM makes guests faster on this host.
 *
 * A /dev/kvm that opens may still be far slower than emulation: where this host is itself a guest, each exit can cost
 * a millisecond (measured: a boot sector that takes 0.1 s emulated took 4 s, and a Debian guest stayed in its boot
 * loader for minutes); and where this KVM lacks something of the processor that guests get, QEMU ends at once. So a boot
 * sector with 2,000 port writes, which are 2,000 exits, runs once under each, with that processor. The answer is kept
 * with all that it depends on: until the host boots again, for this very QEMU, and for a probe of the same arguments.
 */
import { spawn } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { Clock, Log } from '../environment.ts'
import { replaceFile } from '../store/durable-file.ts'
import { endingWithParent, findProgram } from './parent-death.ts'
import { CPU_ARGS, QEMU } from './qemu.ts'

/** Healthy KVM needs about 0.1 s for the probe. */
const KVM_LIMIT_MS = 1_000
/** On a busy host emulation is slow too: KVM may take this many times its time. */
const KVM_MAX_RATIO = 3
const EMULATION_LIMIT_MS = 10_000
/** QEMU's status after the guest wrote 0 to the debug exit port. */
const PROBE_DONE = 1

/** Where QEMU finds the disk, which it is given open. */
const DISK_PATH = '/dev/fd/3'
/** cli; mov cx,2000; loop: out 0x80,al; dec cx; jnz loop; mov al,0; mov dx,0xf4; out dx,al; hlt */
const PROBE_CODE = Buffer.from('fab9d007e6804975fbb000baf400eef4ebfd', 'hex')

export interface AcceleratorSettings {
  /** Keeps the answer. */
  file: string
  /** The kernel's; another one makes the answer out of date. */
  bootId: string
  /** For tests. */
  qemu?: string
}

/** What an answer is good for; with anything else it is found out again. */
interface Subject {
  bootId: string
  /** Its path, size and time of change; another QEMU may need or give another processor. */
  qemu: { path: string; sizeBytes: number; changedMs: number }
  /** What was run under each. */
  probe: string[]
}

/** Runs the probe unless its answer is known. A probe that cannot run says no: emulation works everywhere. */
export async function kvmIsFaster(
  components: { clock: Clock; log: Log },
  settings: AcceleratorSettings
): Promise<boolean> {
  const { clock, log } = components
  const qemu = settings.qemu ?? QEMU
  const subject = subjectOf(settings)
  const known = subject === undefined ? undefined : readAnswer(settings.file, subject)
  if (known !== undefined) return known
  const disk = openDisk()
  try {
    const run = (accelerator: string, limitMs: number) =>
      timeProbe(clock, { file: qemu, args: probeArgs(accelerator), disk }, limitMs)
    const emulatedMs = await run('tcg', EMULATION_LIMIT_MS)
    const kvmMs = await run('kvm', Math.max(KVM_LIMIT_MS, (emulatedMs ?? 0) * KVM_MAX_RATIO))
    const faster = kvmMs !== undefined
    log.info('tried whether KVM makes guests faster', { faster, kvmMs, emulatedMs })
    // nothing was learnt from a QEMU that runs neither
    const isLearnt = faster || emulatedMs !== undefined
    if (isLearnt) {
      await keepAnswer(settings, faster).catch((error: unknown) => {
        log.warn('which accelerator is faster could not be written down', { file: settings.file, error })
      })
    }
    return faster
  } finally {
    closeSync(disk)
  }
}

/** Writes an answer down for as long as it holds. @throws the system's error */
export async function keepAnswer(settings: AcceleratorSettings, kvmIsFaster: boolean): Promise<void> {
  const subject = subjectOf(settings)
  if (subject === undefined) return
  await replaceFile(settings.file, Buffer.from(`${JSON.stringify({ ...subject, kvmIsFaster })}\n`))
}

/** Undefined where there is no such QEMU. */
function subjectOf({ bootId, qemu = QEMU }: AcceleratorSettings): Subject | undefined {
  try {
    const path = findProgram(qemu, process.env.PATH ?? '')
    if (path === undefined) return undefined
    const { size: sizeBytes, mtimeMs: changedMs } = statSync(path)
    return { bootId, qemu: { path, sizeBytes, changedMs }, probe: [PROBE_CODE.toString('hex'), ...probeArgs('')] }
  } catch {
    // It went between the two.
    return undefined
  }
}

/** The probe's disk, a file without a name: nothing is left of it, however this process ends. */
function openDisk(): number {
  const folder = mkdtempSync(join(tmpdir(), 'rowan-probe-'))
  try {
    const disk = join(folder, 'disk')
    writeFileSync(disk, bootSector())
    return openSync(disk, 'r+')
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function bootSector(): Buffer {
  const sector = Buffer.alloc(512)
  PROBE_CODE.copy(sector)
  sector.writeUInt16LE(0xaa55, 510)
  return sector
}

function probeArgs(accelerator: string): string[] {
  const drive = `file=${DISK_PATH},format=raw,if=ide`
  const machine = ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-m', '16', ...CPU_ARGS]
  return [...machine, '-accel', accelerator, '-drive', drive, '-device', 'isa-debug-exit,iobase=0xf4,iosize=4']
}

/** How long the probe took, in ms; undefined when it failed or was not done in time. */
function timeProbe(
  clock: Clock,
  { file, args, disk }: { file: string; args: string[]; disk: number },
  limitMs: number
): Promise<number | undefined> {
  const startedMs = clock.monotonicMs()
  return new Promise(resolve => {
    // A command that is ended while it tries leaves no QEMU behind.
    const tied = endingWithParent({ file, args }, process.env.PATH, 'KILL')
    const child = spawn(tied.file, tied.args, { stdio: ['ignore', 'ignore', 'ignore', disk] })
    const timer = clock.after(limitMs, () => child.kill('SIGKILL'))
    const end = (status: number | null) => {
      timer.cancel()
      resolve(status === PROBE_DONE ? clock.monotonicMs() - startedMs : undefined)
    }
    child.once('error', () => end(null))
    child.once('exit', end)
  })
}

function readAnswer(file: string, subject: Subject): boolean | undefined {
  try {
    const { kvmIsFaster, ...about } = JSON.parse(readFileSync(file, 'utf8')) as Subject & { kvmIsFaster?: unknown }
    return isDeepStrictEqual(about, subject) && typeof kvmIsFaster === 'boolean' ? kvmIsFaster : undefined
  } catch {
    // absent, damaged, or of a build that wrote less: it is found out again
    return undefined
  }
}
