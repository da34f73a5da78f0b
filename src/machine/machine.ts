/**
 * One machine: its description, and its disk while it is attached.
 *
 * Owns: the machine's folder and its served disk, and with it the machine's life: opened, served, closed, and what becomes of it
 * when the disk's thread dies or does not end. What its layers are, and the commands for its snapshots, is layers-keeper.ts; what
 * it costs is counted by stats-keeper.ts. Whoever calls sees to it that only one operation runs at a time (machines.ts). Does
 * not own: the image.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Snapshot } from '../disk/chain.ts'
import { asRowanError, RowanError } from '../errors.ts'
import type { ListenerSettings } from '../nbd/listener.ts'
import { readTlsFolder } from '../nbd/tls-folder.ts'
import type { LocalImage } from '../store/images.ts'
import { type Mark, Timeline } from '../timeline.ts'
import { type BootProgress, BootWatch } from './boot-watch.ts'
import type { MachineComponents, MachineSettings } from './components.ts'
import { type MachineDescription, writeDescription } from './description.ts'
import { DiskThread } from './disk-thread.ts'
import { LayersKeeper } from './layers-keeper.ts'
import { machineSocket } from './machine-socket.ts'
import type { MachineStats } from './machine-stats.ts'
import type { DiskReport } from './served-disk.ts'
import { type StartTrace, startTrace } from './start-trace.ts'
import { StatsKeeper } from './stats-keeper.ts'
import type { TcpAddress } from './tcp-address.ts'

type Components = Omit<MachineComponents, 'appliances' | 'random'>

interface OpenOptions {
  dataBytes?: number | undefined
  tcp?: TcpAddress | undefined
  withoutTcp?: boolean
}

export class Machine {
  readonly folder: string
  readonly layers: LayersKeeper
  /** Called when the thread of the disk has died: the machine is not served any more, and may be opened again. */
  onDied: (error: RowanError) => void = () => undefined
  /** From the last attach on. */
  #line: Timeline
  readonly #components: Components
  readonly #settings: MachineSettings
  #description: MachineDescription
  #servedTcp: TcpAddress | undefined
  #image: LocalImage | undefined
  #disk: DiskThread | undefined
  /** One that was to be closed, and whose thread has not left. */
  #leaving: { disk: DiskThread; error: RowanError } | undefined
  #boot: BootWatch | undefined
  readonly #stats: StatsKeeper
  #announcedComplete: boolean | undefined

  constructor(components: Components, settings: MachineSettings, description: MachineDescription) {
    this.#components = components
    this.#settings = settings
    this.folder = join(settings.folder, description.name)
    this.#description = description
    this.#line = new Timeline(components.clock)
    this.layers = new LayersKeeper(components, { folder: join(this.folder, 'layers'), bootId: settings.bootId }, this)
    const { name, image } = description
    this.#stats = new StatsKeeper(components, { name, image, folder: this.folder })
  }

  get description(): MachineDescription {
    return this.#description
  }

  /** The disk while it is served. */
  get disk(): DiskThread | undefined {
    return this.#disk
  }

  /** Where it is served while it is. */
  get socketPath(): string {
    return machineSocket(this.#settings.socketFolder, this.#description.name)
  }

  /** Where it is served over TCP while it is. */
  get servedTcp(): TcpAddress | undefined {
    return this.#disk === undefined ? undefined : this.#servedTcp
  }

  /**
   * Serves the disk over `image`; from now on the machine counts as attached, also after a restart. One that cannot be
   * served counts as what it was before.
   *
   * @param options - `dataBytes`: it gets a data disk of this size, if it has none; `tcp`: the address to serve it at from
   *   now on (undefined: none), as before if absent; `withoutTcp`: not this time
   * @throws RowanError LAYER_CORRUPT, DISK_FULL, STORE_IO, LISTEN_FAILED, TLS_INVALID; MACHINE_CORRUPT when the image is
   *   not the machine's; DISK_STUCK as `checkLeft`
   */
  async open(image: LocalImage, readOnly: boolean, options: OpenOptions = {}): Promise<void> {
    this.checkLeft()
    const { dataBytes } = options
    const { name, id, sizeBytes, appliance, version } = this.#description
    if (image.id !== this.#description.image || image.root.sizeBytes !== sizeBytes) {
      const says = `${name} is of an image of ${sizeBytes} bytes, and its image has ${image.root.sizeBytes}`
      throw new RowanError('MACHINE_CORRUPT', says)
    }
    const { hasLayer } = this.#description
    const tcp = 'tcp' in options ? options.tcp : this.#description.tcp
    const servedTcp = options.withoutTcp === true ? undefined : tcp
    const listener = servedTcp === undefined ? {} : { tcp: await this.listenerAt(servedTcp) }
    if (!hasLayer) rmSync(this.layers.folder, { recursive: true, force: true })
    const { swarm, pool, startThread, profiles, clock, log } = this.#components
    this.#stats.begins()
    const touches = new BootWatch(image, { profiles, swarm, clock, log }, { isFresh: !hasLayer })
    const { socketPath } = this
    const quotaBytes = this.#settings.layerQuotaBytes
    const data = dataBytes === undefined ? {} : { dataBytes }
    // Before the disk is there, let alone a guest: its first blocks are on their way meanwhile.
    void touches.start()
    const before = this.#description
    let disk: DiskThread | undefined
    try {
      disk = await DiskThread.open(
        { image, pool, source: swarm, touches, startThread, clock, log, bootId: this.#settings.bootId },
        {
          disk: {
            folder: this.layers.folder,
            machine: id,
            readOnly,
            create: !hasLayer && !readOnly,
            quotaBytes,
            ...data
          },
          ...{ socketPath, name, description: `${appliance}@${version}` },
          ...listener
        }
      )
      // Before any client can write: without `hasLayer` the layer would be taken for what a crash has left.
      await this.#describe({ readOnly, attached: true, hasLayer: hasLayer || !readOnly, tcp })
      await disk.serve()
    } catch (error) {
      await touches.end()
      const { readOnly, attached, tcp } = before
      await this.#undo([disk && this.#closeDisk(disk), this.#describe({ readOnly, attached, tcp })])
      throw error
    }
    const served = disk
    this.#image = image
    this.#disk = served
    this.#servedTcp = servedTcp
    this.#boot = touches
    served.onDied = error => this.#died(served, error)
    this.#line.mark('disk is served')
    this.announce()
  }

  /**
   * Serves the disk as it was last. Where its port or what TLS needs cannot be had, it is served at its socket all the same: its
   * guest is there. Errors as `open`.
   */
  async openAsBefore(image: LocalImage): Promise<void> {
    const { name, tcp, readOnly } = this.#description
    try {
      await this.open(image, readOnly)
    } catch (error) {
      const { code, message } = asRowanError(error)
      if (tcp === undefined || (code !== 'TLS_INVALID' && code !== 'LISTEN_FAILED')) throw error
      this.#components.log.warn('a machine is served at its socket alone', { name, ...tcp, code, message })
      await this.open(image, readOnly, { withoutTcp: true })
    }
  }

  /**
   * Goes back to a snapshot; nobody may have the disk.
   *
   * @returns the snapshot of what the machine left
   * @throws RowanError MACHINE_RUNNING; as `LayersKeeper.rollback`, and the disk is served as before
   */
  async rollback(to: string): Promise<Snapshot> {
    const clients = await this.clients()
    const { name, attached } = this.#description
    if (clients > 0)
      throw new RowanError('MACHINE_RUNNING', `${name} is in use by ${clients} NBD client${clients > 1 ? 's' : ''}`)
    if (this.#disk === undefined) return await this.layers.rollback(to)
    const image = this.#image!
    const endUse = image.use()
    try {
      await this.close({ stayAttached: attached })
      return await this.layers.rollback(to)
    } finally {
      await this.openAsBefore(image).finally(endUse)
    }
  }

  /** Takes back what was begun in vain; whoever began it throws why. */
  async #undo(steps: (Promise<unknown> | undefined)[]): Promise<void> {
    for (const step of await Promise.allSettled(steps)) {
      if (step.status === 'fulfilled') continue
      const { code, message } = asRowanError(step.reason)
      const { name } = this.#description
      this.#components.log.warn('what was begun for a machine is not all taken back', { name, code, message })
    }
  }

  /**
   * Serves the disk no more: nobody new finds it while those who have it finish; then it is flushed and closed.
   *
   * @param options - `stayAttached`: the daemon stops, and will serve the machine again
   * @throws RowanError when the last flush failed; the disk is closed and the machine detached all the same. DISK_STUCK: the
   *   machine is detached, and its disk is still being closed
   */
  async close(options: { stayAttached: boolean }): Promise<void> {
    const disk = this.#disk ?? this.#leaving?.disk
    const boot = this.#boot
    this.#boot = undefined
    // Should its thread die now, then in the midst of this, and nobody opens it again.
    if (disk !== undefined) disk.onDied = () => undefined
    let last = await disk?.report()
    try {
      if (disk !== undefined) last = await this.#closeDisk(disk)
    } finally {
      if (this.#disk !== undefined) this.#stats.ends(last)
      this.#disk = undefined
      this.#stats.save(undefined)
      await boot?.end()
      if (!options.stayAttached) await this.#describe({ attached: false })
    }
  }

  /** Why its disk cannot be opened: that of before is still being closed. */
  get stuck(): RowanError | undefined {
    return this.#leaving?.error
  }

  /** Nobody else has the layers. @throws RowanError DISK_STUCK */
  checkLeft(): void {
    if (this.#leaving !== undefined) throw this.#leaving.error
  }

  /** Its thread may end only when the host's disk answers. Then a machine that is to be attached can be served again. */
  async #closeDisk(disk: DiskThread): Promise<DiskReport> {
    try {
      return await disk.close()
    } catch (cause) {
      const error = asRowanError(cause)
      if (error.code === 'DISK_STUCK' && this.#leaving === undefined) {
        this.#leaving = { disk, error }
        void disk.left.then(() => {
          this.#leaving = undefined
          if (this.#description.attached) this.onDied(error)
        })
      }
      throw error
    }
  }

  #died(disk: DiskThread, error: RowanError): void {
    this.#stats.ends(disk.lastReport)
    this.#disk = undefined
    void this.#boot?.end()
    this.#boot = undefined
    this.onDied(error)
  }

  /** Tells the network that blocks of the image can be had here, and once more when all of them can. */
  announce(image: LocalImage | undefined = this.#image): void {
    if (image === undefined || this.#announcedComplete === image.complete) return
    this.#announcedComplete = image.complete
    this.#image = image
    this.#components.directory.announceReplica(image.id, this.#description.appliance, image.complete)
  }

  /** An attach has begun; `line` has its marks. */
  begins(line: Timeline): void {
    this.#line = line
  }

  /** From the last attach to the first block, and how many round trips that took. */
  get trace(): StartTrace {
    const touchMs = this.#boot?.firstTouchMs
    const touch: Mark[] = touchMs === undefined ? [] : [{ what: "the guest's first read", atMs: touchMs }]
    return startTrace([...this.#line.marks, ...this.#components.swarm.line(this.#description.image), ...touch])
  }

  /** How far its guest's boot is along the boot profile; undefined while the disk is not open. */
  get bootProgress(): BootProgress | undefined {
    return this.#boot?.progress
  }

  /** To be called now and then while the disk is open. */
  async tend(): Promise<void> {
    this.announce()
    this.#stats.save(await this.#disk?.report())
    await this.#boot?.tend()
  }

  /** NBD connections to its disk. */
  async clients(): Promise<number> {
    return (await this.#disk?.report())?.clients ?? 0
  }

  /** Since the machine was created. Of two machines with one image each counts what was fetched for either. */
  async stats(): Promise<MachineStats> {
    return this.#stats.with(await this.#disk?.report())
  }

  /** Blocks of the image that are here, of those that are not zero. */
  async local(): Promise<{ blocks: number; of: number }> {
    return (await this.openImage())?.local ?? { blocks: 0, of: 0 }
  }

  /** It may have been closed for others while the machine was not served. */
  async openImage(): Promise<LocalImage | undefined> {
    if (this.#image?.isClosed !== false) this.#image = await this.#components.images.open(this.#description.image)
    return this.#image
  }

  /** What serves the disk at an address. TLS_INVALID. */
  async listenerAt({ host, port }: TcpAddress): Promise<ListenerSettings & { kind: 'tcp' }> {
    return { kind: 'tcp', host, port, tls: await readTlsFolder(this.#settings.tlsFolder) }
  }

  async #describe(change: Partial<Omit<MachineDescription, 'tcp'>> & { tcp?: TcpAddress | undefined }): Promise<void> {
    const { tcp, ...others } = { ...this.#description, ...change }
    const changed: MachineDescription = tcp === undefined ? others : { ...others, tcp }
    if (JSON.stringify(changed) === JSON.stringify(this.#description)) return
    await writeDescription(this.folder, changed)
    this.#description = changed
  }
}
