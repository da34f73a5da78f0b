/**
 * Whether KVM makes guests faster on this host.
 *
 * A /dev/kvm that opens may still be far slower than emulation: where this host is itself a guest, each exit can cost
 * a millisecond (measured: a boot sector that takes 0.1 s emulated took 4 s, and a Debian guest stayed in its boot
 * loader for minutes); and where this KVM lacks something of the processor that guests get, QEMU ends at once. So a boot
 * sector with 2,000 port writes, which are 2,000 exits, runs once under each, with that processor; the answer is kept
 * until the host boots again.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Clock, Log } from '../environment.ts'
import { replaceFile } from '../store/durable-file.ts'
import { CPU_ARGS, QEMU } from './qemu.ts'

/** Healthy KVM needs about 0.1 s for the probe. */
const KVM_LIMIT_MS = 1_000
/** On a busy host emulation is slow too: KVM may take this many times its time. */
const KVM_MAX_RATIO = 3
const EMULATION_LIMIT_MS = 10_000
/** QEMU's status after the guest wrote 0 to the debug exit port. */
const PROBE_DONE = 1

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

/** Runs the probe unless its answer is known. A probe that cannot run says no: emulation works everywhere. */
export async function kvmIsFaster(
  components: { clock: Clock; log: Log },
  settings: AcceleratorSettings
): Promise<boolean> {
  const { log } = components
  const known = readAnswer(settings)
  if (known !== undefined) return known
  const folder = mkdtempSync(join(tmpdir(), 'rowan-probe-'))
  try {
    const disk = join(folder, 'disk')
    writeFileSync(disk, bootSector())
    const run = (accelerator: string, limitMs: number) =>
      timeProbe(components.clock, settings.qemu ?? QEMU, probeArgs(accelerator, disk), limitMs)
    const emulatedMs = await run('tcg', EMULATION_LIMIT_MS)
    const kvmMs = await run('kvm', Math.max(KVM_LIMIT_MS, (emulatedMs ?? 0) * KVM_MAX_RATIO))
    const faster = kvmMs !== undefined
    log.info('tried whether KVM makes guests faster', { faster, kvmMs, emulatedMs })
    // nothing was learnt from a QEMU that runs neither
    if (faster || emulatedMs !== undefined) await keepAnswer(settings, faster, log)
    return faster
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

function probeArgs(accelerator: string, disk: string): string[] {
  const drive = `file=${disk.replaceAll(',', ',,')},format=raw,if=ide`
  const machine = ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-m', '16', ...CPU_ARGS]
  return [...machine, '-accel', accelerator, '-drive', drive, '-device', 'isa-debug-exit,iobase=0xf4,iosize=4']
}

/** How long the probe took, in ms; undefined when it failed or was not done in time. */
function timeProbe(clock: Clock, qemu: string, args: string[], limitMs: number): Promise<number | undefined> {
  const startedMs = clock.monotonicMs()
  return new Promise(resolve => {
    const child = spawn(qemu, args, { stdio: 'ignore' })
    const timer = clock.after(limitMs, () => child.kill('SIGKILL'))
    const end = (status: number | null) => {
      timer.cancel()
      resolve(status === PROBE_DONE ? clock.monotonicMs() - startedMs : undefined)
    }
    child.once('error', () => end(null))
    child.once('exit', end)
  })
}

function readAnswer({ file, bootId }: AcceleratorSettings): boolean | undefined {
  try {
    const answer = JSON.parse(readFileSync(file, 'utf8')) as { bootId?: unknown; kvmIsFaster?: unknown } | null
    return answer?.bootId === bootId && typeof answer.kvmIsFaster === 'boolean' ? answer.kvmIsFaster : undefined
  } catch {
    // absent or damaged: it is found out again
    return undefined
  }
}

async function keepAnswer({ file, bootId }: AcceleratorSettings, kvmIsFaster: boolean, log: Log): Promise<void> {
  try {
    await replaceFile(file, Buffer.from(`${JSON.stringify({ bootId, kvmIsFaster })}\n`))
  } catch (error) {
    log.warn('which accelerator is faster could not be written down', { file, error })
  }
}
