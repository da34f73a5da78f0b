/**
 * All layers of a machine: its chain, and the open layers of its disks.
 *
 * What a command changes is first made and made durable beside what is there; then the chain's file is renamed into
 * place. Until then the old chain is as it was, from then on the new one holds: a crash leaves one of them. What neither
 * needs is removed afterwards, or at the next open.
 *
 * A snapshot of a disk in use:
 *
 * 1. the next top is made, and the present one persisted, while the guest goes on;
 * 2. changes of the guest wait (`hold`), those under way end, and the little that they left is persisted: the top is frozen,
 *    everything in it is durable;
 * 3. the chain's file is renamed, the new top takes the writes, the guest goes on.
 *
 * Nothing is copied, whatever was written. If the new chain was renamed and its folder cannot be synced, it is open which of the
 * two a power loss would leave; then the disks take no more writes, and nothing that either names is removed, until they are
 * opened again.
 *
 * Owns: the chain that holds, the open layers, and, through layers-folder.ts, what is in their folder. One change of the chain at a
 * time.
 */
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { asRowanError, RowanError } from '../errors.ts'
import {
  type Chain,
  type DiskName,
  disksOf,
  foldable,
  layerOf,
  type MergePair,
  mergeable,
  pathTo,
  type Snapshot,
  type SnapshotRequest,
  withMerged,
  withNewTops,
  withoutSnapshot,
  withRollback,
  withSnapshot
} from './chain.ts'
import { FrozenHoles } from './frozen-holes.ts'
import { FrozenLayer } from './frozen-layer.ts'
import { FrozenMap } from './frozen-map.ts'
import { FrozenMapFile } from './frozen-map-file.ts'
import { Layer, type LayerComponents, type LayerLimits } from './layer.ts'
import { type LayerFiles, systemFiles } from './layer-files.ts'
import { SECTOR_BYTES } from './layer-map.ts'
import type { MergePace } from './layer-merge.ts'
import { LayerSpace } from './layer-space.ts'
import { identityOf, LayerStack, savedIdentity } from './layer-stack.ts'
import { LayersFolder, type LayersFolderSettings, layerNames } from './layers-folder.ts'
import { OpenPair } from './open-pair.ts'

export interface MachineLayersSettings extends LayersFolderSettings {
  /** What the data and logs of all the machine's layers may take on the host's disk; a write beyond is LAYERS_FULL. */
  quotaBytes?: number
  /** As many layers are put together from their own maps, page by page, before the merged map is saved anew. */
  maxUnsavedLayers?: number
}

/** Runs `work` while changes of the machine's disks wait, and those that were under way are done. */
export type Hold = <T>(work: () => Promise<T>) => Promise<T>

const DEFAULT_MAX_UNSAVED_LAYERS = 8

/** Nobody has the disks. */
const NOBODY: Hold = work => work()

export class MachineLayers {
  /** `machines/NAME/layers`. */
  readonly folder: string
  readonly #onDisk: LayersFolder
  readonly #components: LayerComponents & { files: LayerFiles }
  readonly #limits: LayerLimits | undefined
  readonly #maxUnsavedLayers: number
  readonly #stacks = new Map<DiskName, LayerStack>()
  #chain: Chain
  readonly #space: LayerSpace
  #turn: Promise<unknown> = Promise.resolve()
  /** Old tops that are being closed. */
  readonly #retiring = new Set<Promise<void>>()
  #closing = false
  /** It is open which chain is on the host's disk. */
  #inDoubt: RowanError | undefined
  readonly #holes: FrozenHoles
  /** Called when there is something to do in the background that no command has brought. */
  onUpkeep: () => void = () => undefined

  private constructor(
    components: LayerComponents & { files: LayerFiles },
    settings: MachineLayersSettings,
    onDisk: LayersFolder,
    chain: Chain
  ) {
    const { quotaBytes = Number.POSITIVE_INFINITY } = settings
    const tops = () => [...this.#stacks.values()].map(({ top }) => top)
    this.#space = new LayerSpace(quotaBytes, tops, () => this.onUpkeep())
    this.#components = { ...components, quotaRoom: () => this.#space.room() }
    this.#limits = settings.limits
    this.#maxUnsavedLayers = settings.maxUnsavedLayers ?? DEFAULT_MAX_UNSAVED_LAYERS
    this.folder = settings.folder
    this.#onDisk = onDisk
    this.#chain = chain
    this.#holes = new FrozenHoles(components.punch, components.log)
  }

  /**
   * Opens all that the top of each disk stands on, and brings the tops to what was last acknowledged or flushed.
   *
   * @throws RowanError LAYER_CORRUPT, naming the file, for what is missing, damaged or another machine's; as `Layer.open`
   */
  static async open(components: LayerComponents, settings: MachineLayersSettings): Promise<MachineLayers> {
    const files = components.files ?? systemFiles
    const known = { ...components, files }
    const { layersFolder, chain } = await LayersFolder.open(files, settings)
    const layers = new MachineLayers(known, settings, layersFolder, chain)
    try {
      for (const [disk] of disksOf(chain)) {
        layers.#stacks.set(
          disk,
          await LayerStack.open(layers.#components, settings.folder, chain, disk, settings.limits)
        )
      }
    } catch (error) {
      for (const stack of layers.#stacks.values()) await stack.close()
      throw error
    }
    layers.#sweep()
    layers.#measure()
    return layers
  }

  get chain(): Chain {
    return this.#chain
  }

  /** What the data of all layers, and the logs of the tops, take on the host's disk. */
  get allocatedBytes(): number {
    return this.#space.allocatedBytes
  }

  stack(disk: DiskName): LayerStack | undefined {
    return this.#stacks.get(disk)
  }

  /**
   * Freezes what all disks of the machine hold now.
   *
   * @param taken - ISO 8601
   * @throws RowanError LIMIT_EXCEEDED, USAGE (the note), DISK_FULL, STORE_IO, LAYER_FAILED; all is then as before, unless
   *   the layers have failed
   */
  snapshot(request: SnapshotRequest, hold: Hold = NOBODY): Promise<Snapshot> {
    const plan = () => withSnapshot(this.#chain, { ...request, emptyTops: this.#emptyTops() })
    return this.#alone(async () => (await this.#freeze(plan, hold)).snapshot)
  }

  /**
   * Freezes each top that stands on a layer which nobody else needs, so that `upkeep` puts the two together: what the guest has overwritten
   * or trimmed has its space in the lower one, too. Errors as `snapshot`.
   */
  fold(hold: Hold = NOBODY): Promise<void> {
    return this.#alone(async () => {
      const disks = this.#toFold
      if (disks.size > 0) await this.#freeze(() => ({ chain: withNewTops(this.#chain, disks) }), hold)
    })
  }

  /** The chain becomes what `plan` says, in which tops may be frozen. It is asked twice: the guest goes on in between. */
  async #freeze<Plan extends { chain: Chain }>(plan: () => Plan, hold: Hold): Promise<Plan> {
    const made = new Set<string>()
    try {
      await this.#onDisk.makeTops(plan().chain, this.#chain, made)
      for (const stack of this.#stacks.values()) await stack.top.persist()
      return await hold(async () => {
        const planned = plan()
        await this.#onDisk.makeTops(planned.chain, this.#chain, made)
        for (const stack of this.#stacks.values()) await stack.top.persist()
        await this.#switchTo(planned.chain)
        return planned
      })
    } finally {
      // What the chain does not name was made in vain.
      const names = new Set(layerNames(this.#chain))
      if (this.#inDoubt === undefined) await this.#delete([...made].filter(name => !names.has(name)))
    }
  }

  /**
   * Goes back to a snapshot; nobody may have the disks. What is left becomes a snapshot too, if it is none. The layers
   * are closed afterwards, and to be opened anew.
   *
   * @returns the snapshot of what was left
   */
  rollback(to: string, request: { note: string; taken: string }): Promise<Snapshot> {
    return this.#alone(async () => {
      const { chain, left } = withRollback(this.#chain, to, { ...request, emptyTops: this.#emptyTops() })
      await this.#onDisk.makeTops(chain, this.#chain, new Set())
      await this.#close()
      await this.#onDisk.write(chain)
      this.#chain = chain
      return left
    })
  }

  /** Forgets a snapshot; what only it needed is deleted. SNAPSHOT_UNKNOWN, DISK_FULL, STORE_IO. */
  discard(name: string): Promise<void> {
    return this.#alone(async () => {
      const { chain, unused } = withoutSnapshot(this.#chain, name)
      await this.#onDisk.write(chain)
      this.#chain = chain
      this.#space.want()
      await this.#delete(unused)
    })
  }

  /**
   * Makes one of two neighbours that nobody needs apart. Long, and beside all else; only its end is a change of the chain.
   *
   * @returns false if `pace.signal` fired, or the pair is no pair any more
   * @throws RowanError LAYER_CORRUPT, DISK_FULL, STORE_IO; nothing is lost
   */
  async merge(pair: MergePair, pace: MergePace): Promise<boolean> {
    const { sizeBytes } = this.#chain.disks[pair.disk]!
    const { files, punch, log } = this.#components
    const open = OpenPair.open(files, this.folder, this.#chain, pair, this.#stacks.get(pair.disk)!)
    const { disk } = pair
    const { into } = open
    const holes = new FrozenHoles(punch, log)
    try {
      if (!(await open.merge(sizeBytes, pace, zero => holes.add(disk, into.name, zero)))) return false
      const isMerged = await this.#alone(async () => {
        if (!mergeable(this.#chain).some(each => isDeepStrictEqual(each, pair))) return false
        const chain = withMerged(this.#chain, pair, open.into.name)
        await this.#onDisk.write(chain)
        this.#chain = chain
        if (open.areShown) {
          this.#stacks.get(pair.disk)!.frozen!.merged(open.lower, open.upper, open.into)
          open.from.close()
        }
        await this.#delete([open.from.name])
        return true
      })
      // What the upper one had trimmed may still have its space in the lower one.
      const frozen = { layer: into, sectors: Math.ceil(sizeBytes / SECTOR_BYTES) }
      const find = () => (layerNames(this.#chain).includes(into.name) ? frozen : undefined)
      if (isMerged) await holes.giveBack(find, () => pace.breathe(0), pace.signal)
      if (isMerged) this.#measure()
      return isMerged
    } finally {
      open.close()
    }
  }

  /**
   * Saves the merged map of a disk's frozen layers, if enough has changed since it was saved.
   *
   * @returns false if the layers changed meanwhile, or `pace.signal` fired
   */
  async saveMap(disk: DiskName, pace: MergePace): Promise<boolean> {
    const { files, log } = this.#components
    const map = this.#stacks.get(disk)?.frozen
    if (map === undefined || !this.#isWorthSaving(map)) return true
    const state = this.#chain.disks[disk]!
    const identity = savedIdentity(this.#chain, disk, pathTo(state, layerOf(state, state.top).parent))
    if (!(await FrozenMapFile.save(files, this.folder, map, identity, pace))) return false
    const saved = FrozenMapFile.open(files, this.folder, identity, map.pageCount)
    if (saved === undefined) log.warn('a map that was just saved does not fit', { folder: this.folder, disk })
    map.load(map.path, saved)
    return true
  }

  /** These sectors of a layer were trimmed just before it was frozen, and have their space still. */
  leaveHoles(disk: DiskName, layer: string, start: number, end: number): void {
    this.#holes.add(disk, layer, { start, end })
    this.onUpkeep()
  }

  /** Whether there is something to do for `upkeep`. LAYER_CORRUPT, STORE_IO. */
  get needsUpkeep(): boolean {
    const { isEmpty } = this.#holes
    return !isEmpty || this.#isFoldDue || mergeable(this.#chain).length > 0 || this.#mapsToSave.length > 0
  }

  /** Does all there is to do, one thing after the other: a merge must not write where holes are punched. Errors as `merge`. */
  async upkeep(pace: MergePace, hold: Hold = NOBODY): Promise<void> {
    await this.#giveBack(() => pace.breathe(0), pace.signal)
    if (this.#isFoldDue) {
      this.#space.folded()
      await this.fold(hold)
    }
    for (let pair = mergeable(this.#chain)[0]; pair !== undefined; pair = mergeable(this.#chain)[0]) {
      if (!(await this.merge(pair, pace)) && pace.signal.aborted) return
    }
    for (const disk of this.#mapsToSave) await this.saveMap(disk, pace)
  }

  async #giveBack(breathe: () => Promise<void>, signal?: AbortSignal): Promise<void> {
    const find = (disk: DiskName, name: string) => {
      const stack = this.#stacks.get(disk)
      const layer = stack?.find(name)
      return layer === undefined ? undefined : { layer, sectors: stack!.top.map.sectors }
    }
    await this.#holes.giveBack(find, breathe, signal)
  }

  get #isFoldDue(): boolean {
    return this.#space.isWorthFolding([...this.#toFold].map(disk => this.#stacks.get(disk)!.top))
  }

  get #toFold(): Set<DiskName> {
    return new Set(foldable(this.#chain).filter(disk => !this.#stacks.get(disk)!.top.isEmpty))
  }

  get #mapsToSave(): DiskName[] {
    return [...this.#stacks].flatMap(([disk, { frozen }]) =>
      frozen !== undefined && this.#isWorthSaving(frozen) ? [disk] : []
    )
  }

  #isWorthSaving(map: FrozenMap): boolean {
    return map.isOutdated || map.unsavedLayers > this.#maxUnsavedLayers
  }

  /** Flushes and closes all; they are closed also when a flush fails, whose error is thrown then. */
  async close(): Promise<void> {
    await this.#turn
    await this.#close()
  }

  async #close(): Promise<void> {
    if (this.#closing) return
    this.#closing = true
    await Promise.all(this.#retiring)
    await this.#giveBack(async () => undefined)
    let failure: unknown
    for (const stack of this.#stacks.values()) {
      try {
        await stack.close()
      } catch (error) {
        failure ??= error
      }
    }
    if (failure !== undefined) throw failure
  }

  /** One change of the chain after another. */
  #alone<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => {
      if (this.#closing) throw new RowanError('DISK_CLOSED', 'the layers are closed')
      if (this.#inDoubt !== undefined) throw this.#inDoubt
      return change()
    })
    this.#turn = result.catch(() => {})
    return result
  }

  #emptyTops(): Set<DiskName> {
    return new Set([...this.#stacks].filter(([, { top }]) => top.isEmpty).map(([disk]) => disk))
  }

  /** The new tops are there, the old ones flushed, and nobody writes: from here on the chain is another. */
  async #switchTo(chain: Chain): Promise<void> {
    const { files, log } = this.#components
    const switched: { stack: LayerStack; frozen: FrozenLayer; top: Layer; old: Layer; oldName: string }[] = []
    let renamed = false
    try {
      for (const [name, disk] of disksOf(chain)) {
        const oldName = this.#chain.disks[name]!.top
        if (disk.top === oldName) continue
        const stack = this.#stacks.get(name)!
        const frozen = FrozenLayer.open(files, join(this.folder, oldName), identityOf(chain, disk, oldName))
        const opened = Layer.open(
          this.#components,
          join(this.folder, disk.top),
          identityOf(chain, disk, disk.top),
          this.#limits
        )
        const top = await opened.catch((error: unknown) => {
          frozen.close()
          throw error
        })
        switched.push({ stack, frozen, top, old: stack.top, oldName })
      }
      await this.#onDisk.write(chain, () => {
        renamed = true
      })
    } catch (error) {
      for (const { frozen, top } of switched) {
        frozen.close()
        await top.close()
      }
      if (renamed) this.#doubt(error)
      throw error
    }
    this.#chain = chain
    for (const { stack, frozen, top } of switched) {
      stack.frozen ??= new FrozenMap(top.map.sectors, log)
      stack.frozen.push(frozen)
      stack.top = top
    }
    this.#measure()
    // Nothing is left to be flushed; the guest need not wait for it all the same.
    for (const { old, oldName } of switched) {
      const retiring = this.#retire(old, oldName).finally(() => this.#retiring.delete(retiring))
      this.#retiring.add(retiring)
    }
  }

  /** The next open reads the chain that holds, and removes what that does not name. */
  #doubt(error: unknown): void {
    const { message } = asRowanError(error)
    const says = `it is open which layers of ${this.folder} hold until the machine is detached and attached again: ${message}`
    this.#inDoubt = new RowanError('LAYER_FAILED', says, { cause: error })
    for (const { top } of this.#stacks.values()) top.fail(error)
  }

  async #retire(old: Layer, name: string): Promise<void> {
    const { log } = this.#components
    try {
      await old.close()
      this.#onDisk.discardLog(name)
    } catch (error) {
      const { code, message } = asRowanError(error)
      log.warn('a layer that was frozen did not close well', { code, message, layer: name })
    }
  }

  #measure(): void {
    this.#space.measure(() => this.#onDisk.frozenBytes(this.#chain))
  }

  /** Removes what a crash left, and what the chain does not name any more. */
  #sweep(): void {
    this.#delete(this.#onDisk.leftovers(this.#chain)).catch((error: unknown) => {
      const { code, message } = asRowanError(error)
      const { log } = this.#components
      log.warn('layers that nobody needs could not be removed', { code, message, folder: this.folder })
    })
    this.#onDisk.discardFrozenLogs(this.#chain)
  }

  async #delete(names: readonly string[]): Promise<void> {
    await this.#onDisk.delete(names)
    this.#measure()
  }
}
