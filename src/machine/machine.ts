/**
 * One machine: its description, and its disk while it is attached.
 *
 * Owns: the machine's folder and its served disk. Whoever calls sees to it that only one operation runs at a time
 * (machines.ts). Does not own: the image.
 */
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { RowanError } from '../errors.ts'
import type { LocalImage } from '../store/images.ts'
import { BootWatch } from './boot-watch.ts'
import type { MachineComponents, MachineSettings } from './components.ts'
import { type MachineDescription, writeDescription } from './description.ts'
import { machineSocket } from './machine-socket.ts'
import { addStats, type MachineStats, noStats, readStats, writeStats } from './machine-stats.ts'
import { type DiskReport, ServedDisk } from './served-disk.ts'

type Components = Pick<MachineComponents, 'swarm' | 'pool' | 'profiles' | 'directory' | 'images' | 'clock' | 'log'>

export class Machine {
  readonly folder: string
  readonly #components: Components
  readonly #settings: MachineSettings
  #description: MachineDescription
  #image: LocalImage | undefined
  #disk: ServedDisk | undefined
  #boot: BootWatch | undefined
  /** Of all sessions before this one. */
  #earlier: MachineStats
  /** What the swarm had transferred of the image when the disk was opened. */
  #transferredBefore = noStats().fetched
  #savedStats = ''
  #announcedComplete: boolean | undefined

  constructor(components: Components, settings: MachineSettings, description: MachineDescription) {
    this.#components = components
    this.#settings = settings
    this.folder = join(settings.folder, description.name)
    this.#description = description
    this.#earlier = readStats(this.folder, components.log)
  }

  get description(): MachineDescription {
    return this.#description
  }

  /** The disk while it is served. */
  get disk(): ServedDisk | undefined {
    return this.#disk
  }

  /** Where it is served while it is. */
  get socketPath(): string {
    return machineSocket(this.#settings.socketFolder, this.#description.name)
  }

  get layersFolder(): string {
    return join(this.folder, 'layers')
  }

  /**
   * Serves the disk over `image`; from now on the machine counts as attached, also after a restart.
   *
   * @throws RowanError LAYER_CORRUPT, DISK_FULL, STORE_IO, LISTEN_FAILED; MACHINE_CORRUPT when the image is not the machine's
   */
  async open(image: LocalImage, readOnly: boolean): Promise<void> {
    const { name, id, sizeBytes, appliance, version } = this.#description
    if (image.id !== this.#description.image || image.root.sizeBytes !== sizeBytes) {
      const says = `${name} is of an image of ${sizeBytes} bytes, and its image has ${image.root.sizeBytes}`
      throw new RowanError('MACHINE_CORRUPT', says)
    }
    const { hasLayer } = this.#description
    if (!hasLayer) rmSync(this.layersFolder, { recursive: true, force: true })
    const { swarm, pool, profiles, clock, log } = this.#components
    this.#transferredBefore = { ...swarm.transfers(image.id) }
    const touches = new BootWatch(image, { profiles, clock, log }, { isFresh: !hasLayer })
    const { socketPath } = this
    const disk = await ServedDisk.open(
      { image, pool, source: swarm, touches, clock, log, bootId: this.#settings.bootId },
      {
        disk: { folder: this.layersFolder, machine: id, readOnly, create: !hasLayer && !readOnly },
        ...{ socketPath, name, description: `${appliance}@${version}` }
      }
    )
    try {
      // Before any client can write: without `hasLayer` the layer would be taken for what a crash has left.
      await this.#describe({ readOnly, attached: true, hasLayer: hasLayer || !readOnly })
      await disk.serve()
    } catch (error) {
      await disk.close()
      throw error
    }
    this.#image = image
    this.#disk = disk
    this.#boot = touches
    this.announce()
  }

  /**
   * Serves the disk no more: nobody new finds it while those who have it finish; then it is flushed and closed.
   *
   * @param options - `stayAttached`: the daemon stops, and will serve the machine again
   * @throws RowanError when the last flush failed; the disk is closed and the machine detached all the same
   */
  async close(options: { stayAttached: boolean }): Promise<void> {
    const disk = this.#disk
    const boot = this.#boot
    this.#boot = undefined
    let last = await disk?.report()
    try {
      last = await disk?.close()
    } finally {
      this.#earlier = this.#statsWith(last)
      this.#disk = undefined
      this.#transferredBefore = noStats().fetched
      await this.saveStats()
      await boot?.end()
      if (!options.stayAttached) await this.#describe({ attached: false })
    }
  }

  /** Tells the network that blocks of the image can be had here, and once more when all of them can. */
  announce(image: LocalImage | undefined = this.#image): void {
    if (image === undefined || this.#announcedComplete === image.complete) return
    this.#announcedComplete = image.complete
    this.#image = image
    this.#components.directory.announceReplica(image.id, this.#description.appliance, image.complete)
  }

  /** To be called now and then while the disk is open. */
  async tend(): Promise<void> {
    this.announce()
    await this.saveStats()
    await this.#boot?.tend()
  }

  /** NBD connections to its disk. */
  async clients(): Promise<number> {
    return (await this.#disk?.report())?.clients ?? 0
  }

  /** Since the machine was created. Of two machines with one image each counts what was fetched for either. */
  async stats(): Promise<MachineStats> {
    return this.#statsWith(await this.#disk?.report())
  }

  #statsWith(report: DiskReport | undefined): MachineStats {
    if (report === undefined) return this.#earlier
    const { waitedMs, longestWaitMs, waitedReads } = report
    const now = this.#components.swarm.transfers(this.#description.image)
    const before = this.#transferredBefore
    return addStats(this.#earlier, {
      fetched: {
        blocks: now.blocks - before.blocks,
        bytes: now.bytes - before.bytes,
        wireBytes: now.wireBytes - before.wireBytes
      },
      waited: { seconds: waitedMs / 1000, longestMs: longestWaitMs, reads: waitedReads }
    })
  }

  /** Keeps the numbers so far; what cannot be written is logged, for they are only advice. */
  async saveStats(): Promise<void> {
    const stats = await this.stats()
    const text = JSON.stringify(stats)
    if (text === this.#savedStats) return
    try {
      writeStats(this.folder, stats)
      this.#savedStats = text
    } catch (error) {
      this.#components.log.warn('the numbers of a machine could not be kept', {
        machine: this.#description.name,
        error
      })
    }
  }

  /** Blocks of the image that are here, of those that are not zero. */
  async local(): Promise<{ blocks: number; of: number }> {
    this.#image ??= await this.#components.images.open(this.#description.image)
    return this.#image?.local ?? { blocks: 0, of: 0 }
  }

  get layers(): number {
    if (!this.#description.hasLayer) return 0
    return readdirSync(this.layersFolder).filter(name => /^\d{4}$/.test(name)).length
  }

  async #describe(change: Partial<MachineDescription>): Promise<void> {
    const changed = { ...this.#description, ...change }
    if (JSON.stringify(changed) === JSON.stringify(this.#description)) return
    await writeDescription(this.folder, changed)
    this.#description = changed
  }
}
