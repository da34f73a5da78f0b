/**
 * One machine: its description, and its disk while it is attached.
 *
 * Owns: the machine's folder and its served disk; what it costs is counted by stats-keeper.ts, and who reads its snapshots
 * by snapshot-exports.ts. Whoever calls sees to it that only one operation runs at a time (machines.ts). Does not own: the
 * image.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { type Chain, type DiskName, newChain, type Snapshot, type SnapshotRequest } from '../disk/chain.ts'
import { readChain } from '../disk/chain-file.ts'
import { systemFiles } from '../disk/layer-files.ts'
import { MachineLayers } from '../disk/machine-layers.ts'
import { asRowanError, RowanError } from '../errors.ts'
import type { ListenerSettings } from '../nbd/listener.ts'
import { readTlsFolder } from '../nbd/tls-folder.ts'
import type { LocalImage } from '../store/images.ts'
import { type Mark, Timeline } from '../timeline.ts'
import { type BootProgress, BootWatch } from './boot-watch.ts'
import type { MachineComponents, MachineSettings } from './components.ts'
import { type MachineDescription, writeDescription } from './description.ts'
import { DiskThread } from './disk-thread.ts'
import { layerBytes, type SnapshotState, snapshotStates } from './machine-snapshots.ts'
import { machineSocket } from './machine-socket.ts'
import type { MachineStats } from './machine-stats.ts'
import type { DiskReport } from './served-disk.ts'
import { type OpenedSnapshot, SnapshotExports } from './snapshot-exports.ts'
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
  readonly #exports: SnapshotExports
  readonly #stats: StatsKeeper
  #announcedComplete: boolean | undefined

  constructor(components: Components, settings: MachineSettings, description: MachineDescription) {
    this.#components = components
    this.#settings = settings
    this.folder = join(settings.folder, description.name)
    this.#description = description
    this.#line = new Timeline(components.clock)
    this.#exports = new SnapshotExports(components)
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

  get layersFolder(): string {
    return join(this.folder, 'layers')
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
    if (!hasLayer) rmSync(this.layersFolder, { recursive: true, force: true })
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
            folder: this.layersFolder,
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

  /** The chain of the machine's layers; undefined for one that never had any. LAYER_CORRUPT. */
  get chain(): Chain | undefined {
    return this.#description.hasLayer ? readChain(systemFiles, this.layersFolder) : undefined
  }

  /** Of its data disk; undefined if it has none. */
  get dataBytes(): number | undefined {
    return this.chain?.disks.data?.sizeBytes
  }

  /** What its layers take on this host's disk. */
  get layerBytes(): number {
    const { chain } = this
    return chain === undefined ? 0 : layerBytes(this.layersFolder, chain)
  }

  get snapshots(): SnapshotState[] {
    const { chain } = this
    return chain === undefined ? [] : snapshotStates(this.layersFolder, chain)
  }

  /** Errors as `MachineLayers.snapshot`, READ_ONLY for a machine that has no layers. */
  snapshot(note: string): Promise<Snapshot> {
    return this.#snapshot({ note, taken: this.#now() })
  }

  async #snapshot(request: SnapshotRequest): Promise<Snapshot> {
    return this.#disk === undefined
      ? await this.#withLayers(layers => layers.snapshot(request))
      : await this.#disk.snapshot(request)
  }

  /**
   * Goes back to a snapshot; nobody may have the disk.
   *
   * @returns the snapshot of what the machine left
   * @throws RowanError MACHINE_RUNNING; as `MachineLayers.rollback`, and the disk is served as before
   */
  async rollback(to: string): Promise<Snapshot> {
    const clients = await this.clients()
    const { name, attached } = this.#description
    if (clients > 0)
      throw new RowanError('MACHINE_RUNNING', `${name} is in use by ${clients} NBD client${clients > 1 ? 's' : ''}`)
    if (this.#disk === undefined) return await this.#withLayers(layers => this.#rollback(layers, to))
    const image = this.#image!
    const endUse = image.use()
    try {
      await this.close({ stayAttached: attached })
      return await this.#withLayers(layers => this.#rollback(layers, to))
    } finally {
      await this.openAsBefore(image).finally(endUse)
    }
  }

  /** Errors as `MachineLayers.discard`; MACHINE_RUNNING while the snapshot is being exported. */
  async discard(snapshot: string): Promise<void> {
    if (this.#exports.isRead(snapshot)) {
      throw new RowanError('MACHINE_RUNNING', `the snapshot ${snapshot} of ${this.#description.name} is being exported`)
    }
    if (this.#disk !== undefined) return await this.#disk.discard(snapshot)
    await this.#withLayers(async layers => {
      await layers.discard(snapshot)
      // Here nobody writes; they are merged when the disk is served again.
      await layers.fold().catch((error: unknown) => {
        const { code, message } = asRowanError(error)
        this.#components.log.warn('a layer keeps space that is taken twice', {
          name: this.#description.name,
          code,
          message
        })
      })
    })
  }

  /**
   * Opens what the machine's disk was at a snapshot, to be read beside whoever uses it; without one, what it is
   * now, for which a snapshot is made that is forgotten afterwards.
   *
   * @returns the reader, and what is to be called when it is not needed any more
   */
  async openSnapshot(name: string | undefined, disk: DiskName): Promise<OpenedSnapshot> {
    const image = await this.#openImage()
    if (image === undefined) {
      const says = `the image of ${this.#description.name} is not here any more; attach the machine to fetch it`
      throw new RowanError('NO_REPLICA', says)
    }
    const { layersFolder, chain: before } = this
    // Nothing is frozen for a disk that is not there.
    if (disk !== 'system' && before?.disks[disk] === undefined) {
      throw new RowanError('SNAPSHOT_UNKNOWN', `${this.#description.name} has no ${disk} disk`)
    }
    const isOurs = name === undefined && before !== undefined
    const ours = { note: 'being exported', taken: this.#now(), isTemporary: true } as const
    const snapshot = isOurs ? (await this.#snapshot(ours)).name : name
    const readChain = () => this.chain ?? newChain(this.#description.id, image.id, image.root.sizeBytes)
    const place = { machine: this.#description.name, image, layersFolder, readChain, snapshot, disk }
    return await this.#exports.open(place, async () => {
      if (isOurs) await this.discard(snapshot!)
    })
  }

  /** Forgets the snapshots of exports that a daemon before this one did not live to end. Errors as `discard`. */
  async discardLeftovers(): Promise<void> {
    for (const { name, isTemporary } of this.chain?.snapshots ?? []) {
      if (isTemporary === true && !this.#exports.isRead(name)) await this.discard(name)
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

  #rollback(layers: MachineLayers, to: string): Promise<Snapshot> {
    return layers.rollback(to, { note: `before the rollback to ${to}`, taken: this.#now() })
  }

  /** The layers of a machine that is not served. */
  async #withLayers<T>(work: (layers: MachineLayers) => Promise<T>): Promise<T> {
    const { id, image, sizeBytes, hasLayer, name } = this.#description
    if (!hasLayer) throw new RowanError('READ_ONLY', `${name} is read-only and has no layers`)
    this.checkLeft()
    const { log } = this.#components
    const settings = { folder: this.layersFolder, machine: id, image, sizeBytes }
    const layers = await MachineLayers.open({ log, bootId: this.#settings.bootId }, settings)
    try {
      return await work(layers)
    } finally {
      await layers.close()
    }
  }

  #now(): string {
    return new Date(this.#components.clock.now()).toISOString()
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
    return (await this.#openImage())?.local ?? { blocks: 0, of: 0 }
  }

  /** It may have been closed for others while the machine was not served. */
  async #openImage(): Promise<LocalImage | undefined> {
    if (this.#image?.isClosed !== false) this.#image = await this.#components.images.open(this.#description.image)
    return this.#image
  }

  /** Layers of the system disk, those of all snapshots included. */
  get layers(): number {
    return this.chain?.disks.system.layers.length ?? (this.#description.hasLayer ? 1 : 0)
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
