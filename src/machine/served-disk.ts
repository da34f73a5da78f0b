/**
 * The disk of a machine behind an NBD server of its own.
 *
 * It is opened first and served afterwards, so that what must be known of a machine with a layer can be written down
 * before the first client writes to it. The export has the machine's name and is the default one, too; a data disk is
 * NAME/data.
 *
 * It lives in a thread of its own (disk-worker.ts); the main thread has a DiskThread for it, with the same calls.
 *
 * Owns: the disk, the server, its socket. Does not own: the image, the pool.
 */
import type { Snapshot, SnapshotRequest } from '../disk/chain.ts'
import { type DiskStats, RowanDisk, type RowanDiskComponents, type RowanDiskSettings } from '../disk/rowan-disk.ts'
import type { Clock } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import type { Export } from '../nbd/export.ts'
import type { ListenerSettings } from '../nbd/listener.ts'
import { NbdServer } from '../nbd/server.ts'
import type { SharedMemory } from '../nbd/shared-memory.ts'
import { dataExport } from './machine-socket.ts'

export type ServedDiskComponents = RowanDiskComponents & {
  clock: Clock
  /** What the buffers of all disks' servers take. */
  memory?: SharedMemory | undefined
}

export interface ServedDiskSettings {
  disk: RowanDiskSettings
  socketPath: string
  /** Where it is served beside its socket. */
  tcp?: ListenerSettings & { kind: 'tcp' }
  /** The machine's name. */
  name: string
  /** One line for a person who lists the exports. */
  description: string
}

export interface DiskReport extends DiskStats {
  /** NBD connections in transmission. */
  clients: number
}

/** What can be asked of a served disk, here or from another thread. */
export interface DiskCalls {
  /** From now on clients find the disk. Errors as `NbdServer.start`. */
  serve(): Promise<void>
  /** What the disk holds now is kept; its clients go on. Errors as `RowanDisk.snapshot`. */
  snapshot(request: SnapshotRequest): Promise<Snapshot>
  /** Errors as `RowanDisk.discard`. */
  discard(snapshot: string): Promise<void>
  report(): Promise<DiskReport>
  /**
   * Nobody new finds the disk while those who have it finish; then it is flushed and closed. Returns the last report.
   *
   * Rejects when the flush fails; all is closed all the same.
   */
  close(): Promise<DiskReport>
}

export class ServedDisk implements DiskCalls {
  readonly #disk: RowanDisk
  readonly #server: NbdServer
  readonly #name: string

  /** Errors as `RowanDisk.open`. */
  static async open(components: ServedDiskComponents, settings: ServedDiskSettings): Promise<ServedDisk> {
    const { clock, log, memory } = components
    const { socketPath, tcp, name, description } = settings
    const disk = await RowanDisk.open(components, settings.disk)
    const served = new Map<string, Export>([[name, { device: disk, name, description }]])
    if (disk.data !== undefined) {
      const dataName = dataExport(name)
      served.set(dataName, { device: disk.data, name: dataName, description: `data disk of ${name}` })
    }
    const exports = {
      list: () => [...served.keys()],
      open: (asked: string) => served.get(asked === '' ? name : asked)
    }
    const unix: ListenerSettings = { kind: 'unix', path: socketPath }
    const listeners = tcp === undefined ? [unix] : [unix, tcp]
    const deserted = (asked: string) => {
      if (asked !== name) return
      disk.prepareNextStart().catch((cause: unknown) => {
        const { code, message } = asRowanError(cause)
        log.debug('not all that a next start may read is here', { name, code, message })
      })
    }
    return new ServedDisk(disk, new NbdServer({ exports, clock, log, memory, deserted }, { listeners }), name)
  }

  private constructor(disk: RowanDisk, server: NbdServer, name: string) {
    this.#disk = disk
    this.#server = server
    this.#name = name
  }

  /** Of its data disk; undefined if it has none. */
  get dataBytes(): number | undefined {
    return this.#disk.data?.sizeBytes
  }

  get #clients(): number {
    return this.#server.clients(this.#name) + this.#server.clients(dataExport(this.#name))
  }

  async serve(): Promise<void> {
    await this.#server.start()
  }

  async snapshot(request: SnapshotRequest): Promise<Snapshot> {
    return await this.#disk.snapshot(request)
  }

  async discard(snapshot: string): Promise<void> {
    await this.#disk.discard(snapshot)
  }

  async report(): Promise<DiskReport> {
    return { ...this.#disk.stats, clients: this.#clients }
  }

  async close(): Promise<DiskReport> {
    await this.#server.stop()
    await this.#disk.close()
    return await this.report()
  }
}
