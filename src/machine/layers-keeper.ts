/**
 * The layers of one machine, and the commands for its snapshots, whether its disk is served or not.
 *
 * Layers are open in one place at a time. While the disk is served its thread has them, and is told what to do (disk-thread.ts).
 * While nobody serves it they are opened here, for one command. A disk that was to be closed and whose thread has not left has
 * them still: then nobody else does (`checkLeft`). What the chain's file says is read at any time, as is a snapshot, which no guest
 * changes.
 *
 * Owns: the folder `layers` of the machine while its disk is not served, and who reads its snapshots (snapshot-exports.ts). Does
 * not own: whether the disk is served, and the machine's description (machine.ts).
 */
import { type Chain, type DiskName, newChain, type Snapshot, type SnapshotRequest } from '../disk/chain.ts'
import { readChain } from '../disk/chain-file.ts'
import { systemFiles } from '../disk/layer-files.ts'
import { MachineLayers } from '../disk/machine-layers.ts'
import { asRowanError, RowanError } from '../errors.ts'
import type { LocalImage } from '../store/images.ts'
import type { MachineComponents, MachineSettings } from './components.ts'
import type { MachineDescription } from './description.ts'
import { layerBytes, type SnapshotState, snapshotStates } from './machine-snapshots.ts'
import type { DiskCalls } from './served-disk.ts'
import { type OpenedSnapshot, SnapshotExports } from './snapshot-exports.ts'

/** The machine, as far as its layers are concerned. */
interface LayersOwner {
  readonly description: MachineDescription
  /** While it is served. */
  readonly disk: Pick<DiskCalls, 'snapshot' | 'discard'> | undefined
  /** @throws RowanError DISK_STUCK when a disk that is served no more has the layers still */
  checkLeft(): void
  /** Undefined: it is not here any more. */
  openImage(): Promise<LocalImage | undefined>
}

export class LayersKeeper {
  /** Absolute; it is there once the machine has layers. */
  readonly folder: string
  readonly #components: Pick<MachineComponents, 'clock' | 'log'>
  readonly #bootId: string
  readonly #owner: LayersOwner
  readonly #exports: SnapshotExports

  constructor(
    components: Pick<MachineComponents, 'pool' | 'swarm' | 'clock' | 'log'>,
    settings: Pick<MachineSettings, 'folder' | 'bootId'>,
    owner: LayersOwner
  ) {
    this.folder = settings.folder
    this.#components = components
    this.#bootId = settings.bootId
    this.#owner = owner
    this.#exports = new SnapshotExports(components)
  }

  /** Undefined for a machine that never had any layers. LAYER_CORRUPT. */
  get #chain(): Chain | undefined {
    return this.#owner.description.hasLayer ? readChain(systemFiles, this.folder) : undefined
  }

  /** Layers of the system disk, those of all snapshots included. LAYER_CORRUPT, as the three below. */
  get count(): number {
    return this.#chain?.disks.system.layers.length ?? 0
  }

  /** What they take on this host's disk, those of the data disk included. */
  get bytes(): number {
    const chain = this.#chain
    return chain === undefined ? 0 : layerBytes(this.folder, chain)
  }

  /** Of the machine's data disk; undefined if it has none. */
  get dataBytes(): number | undefined {
    return this.#chain?.disks.data?.sizeBytes
  }

  get snapshots(): SnapshotState[] {
    const chain = this.#chain
    return chain === undefined ? [] : snapshotStates(this.folder, chain)
  }

  /** Errors as `MachineLayers.snapshot`, READ_ONLY for a machine that has no layers. */
  snapshot(note: string): Promise<Snapshot> {
    return this.#snapshot({ note, taken: this.#now() })
  }

  /** Of a disk that is not served. Returns the snapshot of what the machine left. Errors as `MachineLayers.rollback`. */
  rollback(to: string): Promise<Snapshot> {
    const request = { note: `before the rollback to ${to}`, taken: this.#now() }
    return this.#open(layers => layers.rollback(to, request))
  }

  /** Errors as `MachineLayers.discard`; MACHINE_RUNNING while the snapshot is being exported. */
  async discard(snapshot: string): Promise<void> {
    const { description, disk } = this.#owner
    const { name } = description
    if (this.#exports.isRead(snapshot)) {
      throw new RowanError('MACHINE_RUNNING', `the snapshot ${snapshot} of ${name} is being exported`)
    }
    if (disk !== undefined) return await disk.discard(snapshot)
    await this.#open(async layers => {
      await layers.discard(snapshot)
      // Here nobody writes; they are merged when the disk is served again.
      await layers.fold().catch((error: unknown) => {
        const { code, message } = asRowanError(error)
        this.#components.log.warn('a layer keeps space that is taken twice', { name, code, message })
      })
    })
  }

  /** Forgets the snapshots of exports that a daemon before this one did not live to end. Errors as `discard`. */
  async discardLeftovers(): Promise<void> {
    for (const { name, isTemporary } of this.#chain?.snapshots ?? []) {
      if (isTemporary === true && !this.#exports.isRead(name)) await this.discard(name)
    }
  }

  /**
   * Opens what the machine's disk was at a snapshot, to be read beside whoever uses it; without one, what it is
   * now, for which a snapshot is made that is forgotten afterwards.
   *
   * @returns the reader, and what is to be called when it is not needed any more
   * @throws RowanError NO_REPLICA, SNAPSHOT_UNKNOWN; as `snapshot` and `SnapshotExports.open`
   */
  async openSnapshot(name: string | undefined, disk: DiskName): Promise<OpenedSnapshot> {
    const image = await this.#owner.openImage()
    const { name: machine, id } = this.#owner.description
    if (image === undefined) {
      throw new RowanError('NO_REPLICA', `the image of ${machine} is not here any more; attach the machine to fetch it`)
    }
    const before = this.#chain
    // Nothing is frozen for a disk that is not there.
    if (disk !== 'system' && before?.disks[disk] === undefined) {
      throw new RowanError('SNAPSHOT_UNKNOWN', `${machine} has no ${disk} disk`)
    }
    const isOurs = name === undefined && before !== undefined
    const ours = { note: 'being exported', taken: this.#now(), isTemporary: true } as const
    const snapshot = isOurs ? (await this.#snapshot(ours)).name : name
    const readChain = () => this.#chain ?? newChain(id, image.id, image.root.sizeBytes)
    const place = { machine, image, layersFolder: this.folder, readChain, snapshot, disk }
    return await this.#exports.open(place, async () => {
      if (isOurs) await this.discard(snapshot!)
    })
  }

  async #snapshot(request: SnapshotRequest): Promise<Snapshot> {
    const { disk } = this.#owner
    return disk === undefined ? await this.#open(layers => layers.snapshot(request)) : await disk.snapshot(request)
  }

  /** Those of a disk that is not served, for one command. */
  async #open<T>(work: (layers: MachineLayers) => Promise<T>): Promise<T> {
    const { id, image, sizeBytes, hasLayer, name } = this.#owner.description
    if (this.#owner.disk !== undefined) {
      throw new RowanError('INTERNAL', `${name} is served, and its thread has the layers`)
    }
    if (!hasLayer) throw new RowanError('READ_ONLY', `${name} is read-only and has no layers`)
    this.#owner.checkLeft()
    const { log } = this.#components
    const settings = { folder: this.folder, machine: id, image, sizeBytes }
    const layers = await MachineLayers.open({ log, bootId: this.#bootId }, settings)
    try {
      return await work(layers)
    } finally {
      await layers.close()
    }
  }

  #now(): string {
    return new Date(this.#components.clock.now()).toISOString()
  }
}
