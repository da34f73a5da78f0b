/**
 * A real NBD server on a real socket, for the tests of one file: `afterEach(stopServers)`.
 */
import { join } from 'node:path'
import type { BlockDevice } from '../../src/disk/block-device.ts'
import type { Clock, Log, Timer } from '../../src/environment.ts'
import type { Export } from '../../src/nbd/export.ts'
import type { NbdLimits } from '../../src/nbd/limits.ts'
import type { ListenerSettings } from '../../src/nbd/listener.ts'
import { NbdServer } from '../../src/nbd/server.ts'
import { readTlsFolder } from '../../src/nbd/tls-folder.ts'
import { systemClock } from '../../src/node/system.ts'
import { removeFolders, temporaryFolder } from './folders.ts'
import { NbdClient } from './nbd-client.ts'

export interface LogLine {
  level: 'debug' | 'info' | 'warn'
  message: string
  values: Record<string, unknown>
}

export interface Served {
  server: NbdServer
  path: string
  /** HOST:PORT, where TLS was asked for. */
  tcp: string | undefined
  log: LogLine[]
  exports: Map<string, Export>
}

export interface ServeOptions {
  limits?: Partial<NbdLimits>
  clock?: Clock
  description?: string
  /** Listens on a TCP port of the loopback, too, behind TLS with what is in this folder. */
  tlsFolder?: string
}

const servers = new Set<NbdServer>()

/** Serves a disk as the default export and as `disk`, or several under their names. */
export async function serve(disks: BlockDevice | Record<string, BlockDevice>, options: ServeOptions = {}) {
  const named = 'sizeBytes' in disks ? { disk: disks as BlockDevice } : (disks as Record<string, BlockDevice>)
  const exports = new Map<string, Export>(
    Object.entries(named).map(([name, device]) => [
      name,
      { device, name, ...(options.description === undefined ? {} : { description: options.description }) }
    ])
  )
  const log: LogLine[] = []
  const path = join(await temporaryFolder(), 'nbd.sock')
  const listeners: ListenerSettings[] = [{ kind: 'unix', path }]
  if (options.tlsFolder !== undefined) {
    listeners.push({ kind: 'tcp', host: '127.0.0.1', port: 0, tls: await readTlsFolder(options.tlsFolder) })
  }
  const server = new NbdServer(
    {
      exports: {
        list: () => [...exports.keys()],
        open: name => (name === '' ? [...exports.values()][0] : exports.get(name))
      },
      clock: options.clock ?? systemClock,
      log: collectingLog(log)
    },
    // Whoever is cut off in a test is cut off for a reason, not because time passed.
    { listeners, negotiationTimeoutMs: 600_000, ...options.limits }
  )
  servers.add(server)
  await server.start()
  return { server, path, tcp: server.addresses[1], log, exports } satisfies Served
}

export async function stopServers(): Promise<void> {
  await Promise.all([...servers].map(server => server.stop()))
  servers.clear()
  await removeFolders()
}

export function collectingLog(lines: LogLine[]): Log {
  const at =
    (level: LogLine['level']) =>
    (message: string, values: Record<string, unknown> = {}) => {
      lines.push({ level, message, values })
    }
  return { debug: at('debug'), info: at('info'), warn: at('warn') }
}

/** A clock that the test moves. */
export class ManualClock implements Clock {
  #nowMs = 0
  readonly #timers = new Set<{ atMs: number; run: () => void }>()

  now(): number {
    return this.#nowMs
  }

  monotonicMs(): number {
    return this.#nowMs
  }

  after(delayMs: number, run: () => void): Timer {
    const timer = { atMs: this.#nowMs + delayMs, run }
    this.#timers.add(timer)
    return { cancel: () => this.#timers.delete(timer) }
  }

  get pending(): number {
    return this.#timers.size
  }

  advance(byMs: number): void {
    this.#nowMs += byMs
    for (const timer of [...this.#timers].sort((one, other) => one.atMs - other.atMs)) {
      if (timer.atMs > this.#nowMs || !this.#timers.delete(timer)) continue
      timer.run()
    }
  }
}

/** A good client gets the right answer, now: whatever else a test has done to the server. */
export async function expectGoodService(path: string, name = ''): Promise<void> {
  const client = await NbdClient.open(path, name)
  await client.bytes(0, 512)
  await client.disconnect()
}
