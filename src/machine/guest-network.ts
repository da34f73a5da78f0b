/**
 * `--net user`: a guest reaches the world as any program of its user does, but neither the host nor its loopback.
 *
 *     guest -> QEMU -> our socket -> frame filter -> passt -> the world
 *
 * passt (package passt) speaks for the guest without any privilege; `--no-map-gw` keeps it from standing in for the
 * host at the gateway's address, and the filter (frame-filter.ts) drops what names the host otherwise. Both sockets lie
 * in a private folder; passt, which leaves root for `nobody`, gets one of its own in it. All of it ends with `stop`.
 *
 * passt ends with us, too, when we are killed: by itself once a guest was connected (`--one-off`), before that by a shell that
 * watches over it. It cannot ask for a signal at our death, because the kernel forgets that when a process changes its user.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock, Log } from '../environment.ts'
import { RowanError } from '../errors.ts'
import { type Forbidden, FrameFilter, forbiddenAddresses } from './frame-filter.ts'
import { endingWithParent, findProgram } from './parent-death.ts'

const PASST = 'passt'
/** Becomes `sh -c WATCH passt ARGS`. */
const WATCH = '"$0" "$@" & trap "kill $!" TERM; wait $!'
const READY_TIMEOUT_MS = 5000
const POLL_MS = 20
/** The host's addresses are read anew this often. */
const ADDRESSES_MAX_AGE_MS = 5000
const NOBODY = { uid: 65_534, gid: 65_534 }
const MAX_COMPLAINT_CHARS = 2000

export interface GuestNetwork {
  /** Where QEMU connects. */
  socketPath: string
  stop(): void
}

/** @throws RowanError NETWORK_UNAVAILABLE, naming the package when passt is missing */
export async function startGuestNetwork(components: { clock: Clock; log: Log }): Promise<GuestNetwork> {
  const folder = mkdtempSync(join(tmpdir(), 'rowan-net-'))
  const server = createServer()
  const sockets = new Set<Socket>()
  let passt: ChildProcess | undefined
  const stop = () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    passt?.kill()
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    const passtSocket = join(folder, 'p', 'passt.sock')
    passt = await startPasst(passtSocket)
    const socketPath = join(folder, 'guest.sock')
    await listen(server, socketPath)
    server.on('connection', guest => {
      const world = connect(passtSocket)
      sockets.add(guest).add(world)
      relay(guest, world, components)
    })
    return { socketPath, stop }
  } catch (error) {
    stop()
    if (error instanceof RowanError) throw error
    throw new RowanError('NETWORK_UNAVAILABLE', `the guest's network: ${(error as Error).message}`, { cause: error })
  }
}

/**
 * A socket's file is there from `bind` on, and refuses until `listen`. To try it would be its one guest, so the kernel
 * is asked: the flags of a socket that accepts, in /proc/net/unix.
 */
function isListening(socketPath: string): boolean {
  const sockets = readFileSync('/proc/net/unix', 'latin1').split('\n')
  return sockets.some(line => line.endsWith(` ${socketPath}`) && line.split(' ')[3] === '00010000')
}

/** Starts passt and waits until it listens. */
async function startPasst(socketPath: string): Promise<ChildProcess> {
  const folder = join(socketPath, '..')
  mkdirSync(folder, { mode: 0o700 })
  const args = ['--foreground', '--quiet', '--one-off', '--no-map-gw', '--socket', socketPath]
  if (process.getuid?.() === 0) {
    // It does not stay root, and says that it listens even where it then may not make its socket.
    const { uid, gid } = userNobody()
    chownSync(folder, uid, gid)
    chmodSync(join(folder, '..'), 0o711)
    args.push('--runas', `${uid}:${gid}`)
  }
  if (findProgram(PASST, process.env.PATH ?? '') === undefined) {
    throw new RowanError('NETWORK_UNAVAILABLE', `${PASST} is not installed; --net user needs the package passt`)
  }
  const watched = endingWithParent({ file: 'sh', args: ['-c', WATCH, PASST, ...args] })
  const passt = spawn(watched.file, watched.args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let complaint = ''
  let failure: NodeJS.ErrnoException | undefined
  passt.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-MAX_COMPLAINT_CHARS)
  })
  passt.once('error', error => {
    failure = error
  })
  for (let waitedMs = 0; !isListening(socketPath); waitedMs += POLL_MS) {
    if (failure !== undefined || passt.exitCode !== null || passt.signalCode !== null || waitedMs > READY_TIMEOUT_MS) {
      passt.kill()
      const says = failure?.message ?? (lastLines(complaint) || `it did not listen within ${READY_TIMEOUT_MS / 1000} s`)
      throw new RowanError('NETWORK_UNAVAILABLE', `${PASST} failed: ${says}`)
    }
    await sleep(POLL_MS)
  }
  return passt
}

/** Passes frames both ways with back-pressure: what the guest sends is filtered, what comes to it is not. */
function relay(guest: Socket, world: Socket, { clock, log }: { clock: Clock; log: Log }): void {
  const filter = new FrameFilter(currentAddresses(clock))
  const end = (error?: Error) => {
    if (error !== undefined) log.warn('the network of the guest ended', { error })
    guest.destroy()
    world.destroy()
  }
  guest.on('error', end).on('close', () => end())
  world.on('error', end).on('close', () => end())
  world.pipe(guest)
  guest.on('data', (chunk: Buffer) => {
    try {
      const frames = filter.push(chunk)
      if (frames.length > 0 && !world.write(frames)) guest.pause()
    } catch (error) {
      end(error as Error)
    }
  })
  world.on('drain', () => guest.resume())
}

/** The forbidden addresses, the host's own among them, read anew now and then. */
function currentAddresses(clock: Clock): () => Forbidden {
  let list = forbiddenAddresses([])
  let readAtMs = Number.NEGATIVE_INFINITY
  return () => {
    const nowMs = clock.monotonicMs()
    if (nowMs - readAtMs > ADDRESSES_MAX_AGE_MS) {
      readAtMs = nowMs
      const own = Object.values(networkInterfaces()).flatMap(each => (each ?? []).map(({ address }) => address))
      list = forbiddenAddresses(own.map(address => address.replace(/%.*$/, '')))
    }
    return list
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => {
      chmodSync(path, 0o600)
      resolve()
    })
  })
}

function userNobody(): { uid: number; gid: number } {
  const line = readFileSync('/etc/passwd', 'utf8').match(/^nobody:[^:]*:(\d+):(\d+):/m)
  return line === null ? NOBODY : { uid: Number(line[1]), gid: Number(line[2]) }
}

/** passt also complains about a missing system log, which is no news. */
function lastLines(text: string): string {
  const lines = text.split('\n').filter(line => line !== '' && !/^Failed to send .* to syslog/.test(line))
  return lines.slice(-3).join('; ')
}
