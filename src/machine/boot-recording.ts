/**
 * Boots an image once to record what its boot touches, for the publisher of a release.
 *
 * The machine is thrown away: a layer and a socket in a folder of their own, a headless QEMU in its sandbox, without network and
 * without a console. It runs until nothing new was touched for a while, or until the time is over; what was recorded by then counts.
 *
 * Owns: the folder, the disk, the guest; all are gone when it is done. Does not own: the image.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { BootRecorder, MIN_BOOT_BLOCKS } from '../disk/boot-recorder.ts'
import { asRowanError, RowanError } from '../errors.ts'
import type { BootProfile } from '../image/boot-profile.ts'
import { type LocalImage, ZERO } from '../store/images.ts'
import { endingWithParent } from './parent-death.ts'
import { qemuCommand } from './qemu.ts'
import { ServedDisk, type ServedDiskComponents } from './served-disk.ts'

const MAX_RECORDED_BOOT_MS = 5 * 60_000
/** How often it is looked whether the boot is over. */
const LOOK_MS = 250
/** A guest that reads next to nothing for this long will not boot. */
const NO_BOOT_MS = 45_000
const NAME = 'recording'

export interface BootRecordingSettings {
  /** Made and removed below this folder. */
  temporaryFolder: string
  /** Of sockets; nobody else may look into it. */
  socketFolder: string
  kvm: boolean
  /** Default: MAX_RECORDED_BOOT_MS. */
  limitMs?: number | undefined
  onProgress?: ((elapsedMs: number, limitMs: number) => void) | undefined
  signal?: AbortSignal | undefined
  /** For tests. */
  qemu?: string | undefined
}

/**
 * @param components - those of a disk over the image, which is complete
 * @throws TOOL_MISSING; BOOT_FAILED for a guest that leaves with an error, or touches next to nothing; ABORTED; what opening a disk throws
 */
export async function recordBoot(
  image: LocalImage,
  components: Omit<ServedDiskComponents, 'image' | 'touches'>,
  settings: BootRecordingSettings
): Promise<BootProfile> {
  const { limitMs = MAX_RECORDED_BOOT_MS, signal } = settings
  const folder = mkdtempSync(join(settings.temporaryFolder, `${NAME}-`))
  const socketPath = join(settings.socketFolder, `_${folder.slice(-6)}.sock`)
  const recorder = new BootRecorder()
  try {
    const disk = await ServedDisk.open(
      { ...components, image, touches: recorder },
      {
        disk: { folder: join(folder, 'layers'), machine: NAME, readOnly: false, create: true },
        ...{ socketPath, name: NAME, description: 'a boot that is being recorded' }
      }
    )
    try {
      await disk.serve()
      await untilQuiet(recorder, components.clock, { ...settings, limitMs, signal, socketPath })
    } finally {
      await disk.close()
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  const profile = recorder.profile(block => image.locate(block) !== ZERO)
  if (profile !== undefined && profile.length > 0) return profile
  throw new RowanError('BOOT_FAILED', `the guest touched ${recorder.count} blocks of the image, which is no boot`)
}

/** Runs a guest until its boot is over. */
async function untilQuiet(
  recorder: BootRecorder,
  clock: ServedDiskComponents['clock'],
  settings: BootRecordingSettings & { limitMs: number; socketPath: string }
): Promise<void> {
  const { limitMs, signal, onProgress } = settings
  const startMs = clock.monotonicMs()
  const over = Promise.withResolvers<void>()
  const guest = startGuest(settings, over)
  const look = () => {
    const elapsedMs = clock.monotonicMs() - startMs
    onProgress?.(elapsedMs, limitMs)
    const isDead = recorder.count < MIN_BOOT_BLOCKS && elapsedMs - (recorder.lastTouchMs ?? 0) >= NO_BOOT_MS
    if (isDead || recorder.isOver(elapsedMs) || elapsedMs >= limitMs) over.resolve()
    else if (signal?.aborted) over.reject(new RowanError('ABORTED', 'the recording of a boot was stopped'))
    else timer = clock.after(LOOK_MS, look)
  }
  let timer = clock.after(LOOK_MS, look)
  try {
    await over.promise
  } finally {
    timer.cancel()
    guest.kill('SIGKILL')
    await gone(guest)
  }
}

/** A guest that switches itself off has booted; `over` hears of it, and of a failure. */
function startGuest(
  settings: BootRecordingSettings & { socketPath: string },
  over: PromiseWithResolvers<void>
): ChildProcess {
  const { kvm, socketPath } = settings
  const command = qemuCommand({
    ...{ machine: NAME, socketPath, readOnly: false, network: { mode: 'none' }, kvm, terminal: false },
    extra: ['-serial', 'null', '-no-reboot']
  })
  const file = settings.qemu ?? command.file
  // Its disk is gone with this process, and QEMU would wait for it to come back.
  const tied = endingWithParent({ file, args: command.args }, process.env.PATH, 'KILL')
  const guest = spawn(tied.file, tied.args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let says = ''
  guest.stderr.setEncoding('utf8').on('data', (text: string) => {
    says = (says + text).slice(-500)
  })
  guest.once('error', (error: NodeJS.ErrnoException) => {
    const missing = `${file} is not installed; install the package qemu-system-x86`
    const cause = { cause: error }
    over.reject(error.code === 'ENOENT' ? new RowanError('TOOL_MISSING', missing, cause) : asRowanError(error))
  })
  guest.once('exit', status => {
    if (status === 0) over.resolve()
    else
      over.reject(new RowanError('BOOT_FAILED', `QEMU left with status ${status}: ${says.trim().split('\n').at(-1)}`))
  })
  return guest
}

function gone(guest: ChildProcess): Promise<void> {
  if (guest.exitCode !== null || guest.signalCode !== null || guest.pid === undefined) return Promise.resolve()
  return new Promise(resolve => guest.once('exit', () => resolve()))
}
