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
 * time: a command, or the end of a merge. What goes on beside them, in the background, is layer-compaction.ts's.
 */
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { asRowanError, RowanError } from '../errors.ts'
import {
  type Chain,
  type DiskName,
  disksOf,
  foldable,
  type MergePair,
  mergeable,
  type Snapshot,
  type SnapshotRequest,
  withMerged,
  withNewTops,
  withoutSnapshot,
  withRollback,
  withSnapshot
} from './chain.ts'
import type { Hold } from './disk-changes.ts'
import { FrozenLayer } from './frozen-layer.ts'
import { FrozenMap } from './frozen-map.ts'
import { Layer, type LayerComponents, type LayerLimits } from './layer.ts'
import { LayerCompaction } from './layer-compaction.ts'
import { type LayerFiles, systemFiles } from './layer-files.ts'
import { LayerSpace } from './layer-space.ts'
import { identityOf, LayerStack } from './layer-stack.ts'
import { LayersFolder, type LayersFolderSettings, layerNames } from './layers-folder.ts'
import type { OpenPair } from './open-pair.ts'

export interface MachineLayersSettings extends LayersFolderSettings {
  /** What the data and logs of all the machine's layers may take on the host's disk; a write beyond is LAYERS_FULL. */
  quotaBytes?: number
  /** As many layers are put together from their own maps, page by page, before the merged map is saved anew. */
  maxUnsavedLayers?: number
}

/** Nobody has the disks. */
const NOBODY: Hold = work => work()

export class MachineLayers {
  /** `machines/NAME/layers`. */
  readonly folder: string
  readonly #onDisk: LayersFolder
  readonly #components: LayerComponents & { files: LayerFiles }
  readonly #limits: LayerLimits | undefined
  readonly #stacks = new Map<DiskName, LayerStack>()
  #chain: Chain
  readonly #space: LayerSpace
  #turn: Promise<unknown> = Promise.resolve()
  /** Old tops that are being closed. */
  readonly #retiring = new Set<Promise<void>>()
  #closing = false
  /** It is open which chain is on the host's disk. */
  #inDoubt: RowanError | undefined
  /** What there is to do in the background. */
  readonly compaction: LayerCompaction

  private constructor(
    components: LayerComponents & { files: LayerFiles },
    settings: MachineLayersSettings,
    onDisk: LayersFolder,
    chain: Chain
  ) {
    const { quotaBytes = Number.POSITIVE_INFINITY } = settings
    this.#space = new LayerSpace(quotaBytes, {
      tops: () => [...this.#stacks.values()].map(({ top }) => top),
      frozenBytes: () => onDisk.frozenBytes(this.#chain),
      onShort: () => this.compaction.onDue()
    })
    this.#components = { ...components, quotaRoom: () => this.#space.room() }
    this.#limits = settings.limits
    this.folder = settings.folder
    this.#onDisk = onDisk
    this.#chain = chain
    const parts = { ...components, layers: this, space: this.#space }
    this.compaction = new LayerCompaction(parts, settings.maxUnsavedLayers)
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
        const stack = await LayerStack.open(layers.#components, settings.folder, chain, disk, settings.limits)
        layers.#stacks.set(disk, stack)
      }
    } catch (error) {
      for (const stack of layers.#stacks.values()) await stack.close()
      throw error
    }
    layers.#sweep()
    layers.#space.measure()
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
   * Freezes each top that stands on a layer which nobody else needs, so that compaction puts the two together: what the guest has overwritten
   * or trimmed has its space in the lower one, too. Errors as `snapshot`.
   */
  fold(hold: Hold = NOBODY): Promise<void> {
    return this.#alone(async () => {
      const disks = this.toFold
      if (disks.size > 0) await this.#freeze(() => ({ chain: withNewTops(this.#chain, disks) }), hold)
    })
  }

  /** Disks for `fold`. */
  get toFold(): Set<DiskName> {
    return new Set(foldable(this.#chain).filter(disk => !this.#stacks.get(disk)!.top.isEmpty))
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
   * From here on one of a pair stands for both, and the other is deleted. STORE_IO, DISK_FULL.
   *
   * @param open - merged; it is not closed
   * @returns false if they are no pair any more, and nothing was done
   */
  merged(pair: MergePair, open: OpenPair): Promise<boolean> {
    return this.#alone(async () => {
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
    await this.compaction.giveBack(async () => undefined)
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
        const identity = identityOf(chain, disk, disk.top)
        const opened = Layer.open(this.#components, join(this.folder, disk.top), identity, this.#limits)
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
    this.#space.measure()
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
    this.#space.measure()
  }
}
