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
 * two a power loss would leave; then the disks take no more writes until they are opened again.
 *
 * A machine of before there were chains has one layer, `0001`, and no file; it gets one when it is opened.
 *
 * Owns: the folder of layers. One change of the chain at a time.
 */
import { dirname, join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { asRowanError, RowanError } from '../errors.ts'
import {
  type Chain,
  type DiskName,
  disksOf,
  EMPTY_IMAGE,
  layerOf,
  type MergePair,
  mergeable,
  newChain,
  newDisk,
  pathTo,
  type Snapshot,
  withMerged,
  withoutSnapshot,
  withRollback,
  withSnapshot
} from './chain.ts'
import { CHAIN_FILE, readChain, writeChain } from './chain-file.ts'
import { FrozenLayer } from './frozen-layer.ts'
import { FrozenMap } from './frozen-map.ts'
import { FrozenMapFile } from './frozen-map-file.ts'
import { Layer, type LayerComponents, type LayerLimits } from './layer.ts'
import { type LayerFiles, systemFiles } from './layer-files.ts'
import { type MergePace, mergeLayers } from './layer-merge.ts'
import { identityOf, LayerStack, savedIdentity } from './layer-stack.ts'

export interface MachineLayersSettings {
  /** `machines/NAME/layers`. */
  folder: string
  /** The machine's id. */
  machine: string
  /** The id and the size of the image below the system disk. */
  image: string
  sizeBytes: number
  /** Makes the first layers of a machine that has none. Without it a layer that is missing is LAYER_CORRUPT. */
  create?: boolean
  /** The machine has a data disk of this size; it is made if it has none yet. */
  dataBytes?: number
  /** What the data of all the machine's layers may take on the host's disk; a write beyond is LAYERS_FULL. */
  quotaBytes?: number
  limits?: LayerLimits
  /** As many layers are put together from their own maps, page by page, before the merged map is saved anew. */
  maxUnsavedLayers?: number
}

/** Runs `work` while changes of the machine's disks wait, and those that were under way are done. */
export type Hold = <T>(work: () => Promise<T>) => Promise<T>

const DEFAULT_MAX_UNSAVED_LAYERS = 8

/** Nobody has the disks. */
const NOBODY: Hold = work => work()

const LAYER_FOLDER = /^d?\d{4,9}(\.new)?$/

export class MachineLayers {
  readonly folder: string
  readonly #components: LayerComponents & { files: LayerFiles }
  readonly #limits: LayerLimits | undefined
  readonly #maxUnsavedLayers: number
  readonly #stacks = new Map<DiskName, LayerStack>()
  #chain: Chain
  readonly #quotaBytes: number
  /** What all layers but the tops take. */
  #frozenBytes = 0
  #turn: Promise<unknown> = Promise.resolve()
  /** Old tops that are being closed. */
  readonly #retiring = new Set<Promise<void>>()
  #closing = false

  private constructor(
    components: LayerComponents & { files: LayerFiles },
    settings: MachineLayersSettings,
    chain: Chain
  ) {
    this.#components = { ...components, quotaRoom: () => this.#quotaBytes - this.allocatedBytes }
    this.#quotaBytes = settings.quotaBytes ?? Number.POSITIVE_INFINITY
    this.#limits = settings.limits
    this.#maxUnsavedLayers = settings.maxUnsavedLayers ?? DEFAULT_MAX_UNSAVED_LAYERS
    this.folder = settings.folder
    this.#chain = chain
  }

  /**
   * Opens all that the top of each disk stands on, and brings the tops to what was last acknowledged or flushed.
   *
   * @throws RowanError LAYER_CORRUPT, naming the file, for what is missing, damaged or another machine's; as `Layer.open`
   */
  static async open(components: LayerComponents, settings: MachineLayersSettings): Promise<MachineLayers> {
    const files = components.files ?? systemFiles
    const known = { ...components, files }
    const chain = await prepareChain(files, settings)
    checkChain(chain, settings)
    // A daemon may have died between the rename and its sync; what a guest flushes from now on must not be lost with it.
    files.syncFolder(settings.folder)
    const layers = new MachineLayers(known, settings, chain)
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

  /** Whether a folder has layers of a machine. */
  static exist(files: LayerFiles, folder: string): boolean {
    return files.list(folder).some(name => name === CHAIN_FILE || LAYER_FOLDER.test(name))
  }

  get chain(): Chain {
    return this.#chain
  }

  /** What the data of all layers takes on the host's disk. */
  get allocatedBytes(): number {
    let sum = this.#frozenBytes
    for (const { top } of this.#stacks.values()) sum += top.allocatedBytes
    return sum
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
  snapshot(request: { note: string; taken: string }, hold: Hold = NOBODY): Promise<Snapshot> {
    return this.#alone(async () => {
      const plan = () => withSnapshot(this.#chain, { ...request, emptyTops: this.#emptyTops() })
      const made = new Set<string>()
      try {
        await this.#makeTops(plan().chain, made)
        for (const stack of this.#stacks.values()) await stack.top.persist()
        return await hold(async () => {
          const { chain, snapshot } = plan()
          await this.#makeTops(chain, made)
          for (const stack of this.#stacks.values()) await stack.top.persist()
          await this.#switchTo(chain)
          return snapshot
        })
      } finally {
        // What the chain does not name was made in vain.
        const names = new Set(this.#layerNames())
        await this.#delete([...made].filter(name => !names.has(name)))
      }
    })
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
      await this.#makeTops(chain, new Set())
      await this.#close()
      await writeChain(this.#components.files, this.folder, chain)
      this.#chain = chain
      return left
    })
  }

  /** Forgets a snapshot; what only it needed is deleted. SNAPSHOT_UNKNOWN, DISK_FULL, STORE_IO. */
  discard(name: string): Promise<void> {
    return this.#alone(async () => {
      const { chain, unused } = withoutSnapshot(this.#chain, name)
      await writeChain(this.#components.files, this.folder, chain)
      this.#chain = chain
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
    const open = this.#openPair(pair)
    try {
      const down = open.upper.allocatedBytes <= open.lower.allocatedBytes
      const [from, into] = down ? [open.upper, open.lower] : [open.lower, open.upper]
      if (!(await mergeLayers(from, into, down ? 'down' : 'up', sizeBytes, pace))) return false
      return await this.#alone(async () => {
        if (!mergeable(this.#chain).some(each => isDeepStrictEqual(each, pair))) return false
        const chain = withMerged(this.#chain, pair, into.name)
        await writeChain(this.#components.files, this.folder, chain)
        this.#chain = chain
        if (open.areShown) {
          this.#stacks.get(pair.disk)!.frozen!.merged(open.lower, open.upper, into)
          from.close()
        }
        await this.#delete([from.name])
        return true
      })
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

  /** Whether there is something to do for `merge` or `saveMap`. */
  get needsUpkeep(): boolean {
    return mergeable(this.#chain).length > 0 || this.#mapsToSave.length > 0
  }

  /** Does all there is to do. Errors as `merge`. */
  async upkeep(pace: MergePace): Promise<void> {
    for (let pair = mergeable(this.#chain)[0]; pair !== undefined; pair = mergeable(this.#chain)[0]) {
      if (!(await this.merge(pair, pace)) && pace.signal.aborted) return
    }
    for (const disk of this.#mapsToSave) await this.saveMap(disk, pace)
  }

  get #mapsToSave(): DiskName[] {
    return [...this.#stacks].flatMap(([disk, { frozen }]) =>
      frozen !== undefined && this.#isWorthSaving(frozen) ? [disk] : []
    )
  }

  #isWorthSaving(map: FrozenMap): boolean {
    return map.isOutdated || map.unsavedLayers > this.#maxUnsavedLayers
  }

  /** Of a branch that is not shown now, the layers are opened for the occasion. */
  #openPair({ disk, lower, upper }: MergePair) {
    const stack = this.#stacks.get(disk)!
    const shown = [stack.find(lower), stack.find(upper)]
    if (shown[0] !== undefined && shown[1] !== undefined) {
      return { lower: shown[0], upper: shown[1], areShown: true, close: () => {} }
    }
    const { files } = this.#components
    const open = (name: string) =>
      FrozenLayer.open(files, join(this.folder, name), identityOf(this.#chain, this.#chain.disks[disk]!, name))
    const first = open(lower)
    try {
      const second = open(upper)
      const close = () => {
        first.close()
        second.close()
      }
      return { lower: first, upper: second, areShown: false, close }
    } catch (error) {
      first.close()
      throw error
    }
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
      return change()
    })
    this.#turn = result.catch(() => {})
    return result
  }

  #emptyTops(): Set<DiskName> {
    return new Set([...this.#stacks].filter(([, { top }]) => top.isEmpty).map(([disk]) => disk))
  }

  #layerNames(): string[] {
    return disksOf(this.#chain).flatMap(([, { layers }]) => layers.map(({ name }) => name))
  }

  /** Makes the tops of a chain that are not there yet. */
  async #makeTops(chain: Chain, made: Set<string>): Promise<void> {
    const { files } = this.#components
    const known = new Set(this.#layerNames())
    for (const [, disk] of disksOf(chain)) {
      if (known.has(disk.top) || made.has(disk.top)) continue
      const folder = join(this.folder, disk.top)
      // Left over from a snapshot that did not come about.
      await files.deleteFolder(folder)
      await Layer.create(folder, identityOf(chain, disk, disk.top), files, this.#limits)
      made.add(disk.top)
    }
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
      await writeChain(files, this.folder, chain, () => {
        renamed = true
      })
    } catch (error) {
      for (const { frozen, top } of switched) {
        frozen.close()
        await top.close()
      }
      if (renamed) for (const { top } of this.#stacks.values()) top.fail(error)
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

  async #retire(old: Layer, name: string): Promise<void> {
    const { files, log } = this.#components
    try {
      await old.close()
      FrozenLayer.discardLog(files, join(this.folder, name))
    } catch (error) {
      const { code, message } = asRowanError(error)
      log.warn('a layer that was frozen did not close well', { code, message, layer: name })
    }
  }

  #measure(): void {
    const { files } = this.#components
    this.#frozenBytes = 0
    if (this.#quotaBytes === Number.POSITIVE_INFINITY) return
    for (const [, { layers, top }] of disksOf(this.#chain)) {
      for (const { name } of layers) {
        if (name !== top) this.#frozenBytes += files.allocatedBytes(join(this.folder, name, 'data'))
      }
    }
  }

  /** Removes what a crash left, and what the chain does not name any more. */
  #sweep(): void {
    const { files, log } = this.#components
    const names = new Set(this.#layerNames())
    const left = files.list(this.folder).filter(name => LAYER_FOLDER.test(name) && !names.has(name))
    this.#delete(left).catch((error: unknown) => {
      const { code, message } = asRowanError(error)
      log.warn('layers that nobody needs could not be removed', { code, message, folder: this.folder })
    })
    for (const [, disk] of disksOf(this.#chain)) {
      for (const { name } of pathTo(disk, disk.top).slice(0, -1)) {
        FrozenLayer.discardLog(files, join(this.folder, name))
      }
    }
  }

  async #delete(names: readonly string[]): Promise<void> {
    for (const name of names) await this.#components.files.deleteFolder(join(this.folder, name))
    this.#measure()
  }
}

/** The chain of a folder; made, if the machine is new, has a new disk, or is of before there were chains. */
async function prepareChain(files: LayerFiles, settings: MachineLayersSettings): Promise<Chain> {
  const { folder, machine, image, sizeBytes, dataBytes, limits } = settings
  const found = readChain(files, folder)
  const created = dataBytes === undefined ? ['0001'] : ['0001', 'd0001']
  if (found !== undefined && (dataBytes === undefined || found.disks.data !== undefined)) return found
  const isNew = found === undefined && !MachineLayers.exist(files, folder)
  if (isNew && settings.create !== true) {
    throw new RowanError('LAYER_CORRUPT', `${join(folder, CHAIN_FILE)} is missing, and so are the layers`)
  }
  if (found === undefined && !isNew) {
    // One of before there were chains, or one whose making was interrupted.
    const there = files.list(folder).filter(name => LAYER_FOLDER.test(name) && !name.endsWith('.new'))
    if (!there.every(name => created.includes(name)) || (settings.create !== true && !there.includes('0001'))) {
      throw new RowanError('LAYER_CORRUPT', `${join(folder, CHAIN_FILE)} is missing; there is ${there.join(', ')}`)
    }
  }
  files.makeFolder(folder)
  files.syncFolder(dirname(folder))
  let chain = found ?? newChain(machine, image, sizeBytes)
  if (dataBytes !== undefined && chain.disks.data === undefined) {
    chain = { ...chain, disks: { ...chain.disks, data: newDisk('data', EMPTY_IMAGE, dataBytes) } }
  }
  for (const [, disk] of disksOf(chain)) {
    if (found?.disks.system === disk || files.exists(join(folder, disk.top))) continue
    await Layer.create(join(folder, disk.top), identityOf(chain, disk, disk.top), files, limits)
  }
  await writeChain(files, folder, chain)
  return chain
}

function checkChain(chain: Chain, { folder, machine, image, sizeBytes }: MachineLayersSettings): void {
  const { system } = chain.disks
  const wrong = (what: string, found: unknown, wanted: unknown) =>
    new RowanError('LAYER_CORRUPT', `${join(folder, CHAIN_FILE)}: its ${what} is ${found}, not ${wanted}`)
  if (chain.machine !== machine) throw wrong('machine', chain.machine, machine)
  if (system.image !== image) throw wrong('image', system.image, image)
  if (system.sizeBytes !== sizeBytes) throw wrong('size', system.sizeBytes, sizeBytes)
}
