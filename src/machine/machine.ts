/**
 * One machine: its description, and its disk while it is attached.
 *
 * Owns: the machine's folder and its open disk. Whoever calls sees to it that only one operation runs at a time
 * (machines.ts). Does not own: the image, the connections of NBD clients.
 */
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { RowanDisk } from '../disk/rowan-disk.ts'
import { RowanError } from '../errors.ts'
import type { LocalImage } from '../store/images.ts'
import type { MachineComponents, MachineSettings } from './components.ts'
import { type MachineDescription, writeDescription } from './description.ts'
import { addStats, type MachineStats, noStats, readStats, writeStats } from './machine-stats.ts'

type Components = Pick<MachineComponents, 'swarm' | 'pool' | 'directory' | 'images' | 'clock' | 'log'>

export class Machine {
  readonly folder: string
  readonly #components: Components
  readonly #bootId: string
  #description: MachineDescription
  #image: LocalImage | undefined
  #disk: RowanDisk | undefined
  #hidden = false
  /** Of all sessions before this one. */
  #earlier: MachineStats
  /** What the swarm had transferred of the image when the disk was opened. */
  #transferredBefore = noStats().fetched
  #savedStats = ''
  #announcedComplete: boolean | undefined

  constructor(
    components: Components,
    settings: Pick<MachineSettings, 'bootId'> & { folder: string },
    description: MachineDescription
  ) {
    this.#components = components
    this.#bootId = settings.bootId
    this.folder = settings.folder
    this.#description = description
    this.#earlier = readStats(settings.folder, components.log)
  }

  get description(): MachineDescription {
    return this.#description
  }

  /** The disk while it is open. */
  get disk(): RowanDisk | undefined {
    return this.#disk
  }

  /** The disk as long as new clients may have it. */
  get served(): RowanDisk | undefined {
    return this.#hidden ? undefined : this.#disk
  }

  /** From now on no new client finds the disk; those who have it go on until it is closed. */
  hide(): void {
    this.#hidden = true
  }

  get layersFolder(): string {
    return join(this.folder, 'layers')
  }

  /**
   * Opens the disk over `image`; from now on the machine counts as attached, also after a restart.
   *
   * @throws RowanError LAYER_CORRUPT, DISK_FULL, STORE_IO; MACHINE_CORRUPT when the image is not the machine's
   */
  async open(image: LocalImage, readOnly: boolean): Promise<void> {
    const { name, id, sizeBytes } = this.#description
    if (image.id !== this.#description.image || image.root.sizeBytes !== sizeBytes) {
      const says = `${name} is of an image of ${sizeBytes} bytes, and its image has ${image.root.sizeBytes}`
      throw new RowanError('MACHINE_CORRUPT', says)
    }
    const { hasLayer } = this.#description
    if (!hasLayer) rmSync(this.layersFolder, { recursive: true, force: true })
    const { swarm, pool, clock, log } = this.#components
    this.#transferredBefore = { ...swarm.transfers(image.id) }
    const disk = await RowanDisk.open(
      { image, pool, source: swarm, clock, log, bootId: this.#bootId },
      { folder: this.layersFolder, machine: id, readOnly, create: !hasLayer && !readOnly }
    )
    try {
      await this.#describe({ readOnly, attached: true, hasLayer: hasLayer || !readOnly })
    } catch (error) {
      await disk.close()
      throw error
    }
    this.#image = image
    this.#disk = disk
    this.#hidden = false
    this.announce()
  }

  /**
   * Flushes and closes the disk.
   *
   * @param options - `stayAttached`: the daemon stops, and will serve the machine again
   * @throws RowanError when the last flush failed; the disk is closed and the machine detached all the same
   */
  async close(options: { stayAttached: boolean }): Promise<void> {
    this.saveStats()
    const disk = this.#disk
    this.#earlier = this.stats
    this.#disk = undefined
    this.#transferredBefore = noStats().fetched
    try {
      await disk?.close()
    } finally {
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

  /** Since the machine was created. Of two machines with one image each counts what was fetched for either. */
  get stats(): MachineStats {
    if (this.#disk === undefined) return this.#earlier
    const { waitedMs, longestWaitMs, waitedReads } = this.#disk.stats
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
  saveStats(): void {
    const stats = this.stats
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
