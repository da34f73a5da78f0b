/**
 * The folder of a machine's layers, as it is on the host's disk: the chain's file, and a folder for each layer.
 *
 * A machine of before there were chains has one layer, `0001`, and no file; it gets one when the folder is opened. One whose
 * making was interrupted looks the same, and is made to the end.
 *
 * What a chain names is made before the chain is written, and what it names no more is removed afterwards; so after a crash
 * there may be layers that nobody needs (`leftovers`), but none is missing.
 *
 * Owns: the folder. Which chain holds, and which layers are open, is machine-layers.ts's business.
 */
import { dirname, join } from 'node:path'
import { RowanError } from '../errors.ts'
import { type Chain, disksOf, EMPTY_IMAGE, newChain, newDisk, pathTo } from './chain.ts'
import { CHAIN_FILE, readChain, writeChain } from './chain-file.ts'
import { FrozenLayer } from './frozen-layer.ts'
import { Layer, type LayerLimits } from './layer.ts'
import type { LayerFiles } from './layer-files.ts'
import { identityOf } from './layer-stack.ts'
import { PUNCH_LOCK, punchesOver } from './punch-tool.ts'

export interface LayersFolderSettings {
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
  limits?: LayerLimits
}

const LAYER_FOLDER = /^d?\d{4,9}(\.new)?$/

export class LayersFolder {
  readonly path: string
  readonly #files: LayerFiles
  readonly #limits: LayerLimits | undefined

  private constructor(files: LayerFiles, { folder, limits }: LayersFolderSettings) {
    this.path = folder
    this.#files = files
    this.#limits = limits
  }

  /**
   * The folder, and the chain that it has; made, if the machine is new, has a new disk, or is of before there were chains.
   *
   * @throws RowanError LAYER_CORRUPT, naming the file, for what is missing, damaged or another machine's; DISK_FULL, STORE_IO, DISK_STUCK
   */
  static async open(
    files: LayerFiles,
    settings: LayersFolderSettings
  ): Promise<{ layersFolder: LayersFolder; chain: Chain }> {
    const lock = join(settings.folder, PUNCH_LOCK)
    if (files.exists(lock)) {
      await punchesOver(lock)
      files.remove(lock)
    }
    const chain = await prepareChain(files, settings)
    checkChain(chain, settings)
    // A daemon may have died between the rename and its sync; what a guest flushes from now on must not be lost with it.
    files.syncFolder(settings.folder)
    return { layersFolder: new LayersFolder(files, settings), chain }
  }

  /** Whether a folder has layers of a machine. */
  static exist(files: LayerFiles, folder: string): boolean {
    return files.list(folder).some(name => name === CHAIN_FILE || LAYER_FOLDER.test(name))
  }

  /** As `writeChain`. */
  write(chain: Chain, onRenamed?: () => void): Promise<void> {
    return writeChain(this.#files, this.path, chain, onRenamed)
  }

  /**
   * Makes the tops of a chain that the present one does not name.
   *
   * @param made - those that were made before and need not be again; the new ones are added, also when a later one fails
   */
  async makeTops(chain: Chain, present: Chain, made: Set<string>): Promise<void> {
    const known = new Set(layerNames(present))
    for (const [, disk] of disksOf(chain)) {
      if (known.has(disk.top) || made.has(disk.top)) continue
      const folder = join(this.path, disk.top)
      // Left over from a snapshot that did not come about.
      await this.#files.deleteFolder(folder)
      await Layer.create(folder, identityOf(chain, disk, disk.top), this.#files, this.#limits)
      made.add(disk.top)
    }
  }

  async delete(names: readonly string[]): Promise<void> {
    for (const name of names) await this.#files.deleteFolder(join(this.path, name))
  }

  /** A layer that takes no more writes needs no log. */
  discardLog(name: string): void {
    FrozenLayer.discardLog(this.#files, join(this.path, name))
  }

  /** Removes the logs that a crash left to layers that take no more writes. */
  discardFrozenLogs(chain: Chain): void {
    for (const [, disk] of disksOf(chain)) {
      for (const { name } of pathTo(disk, disk.top).slice(0, -1)) this.discardLog(name)
    }
  }

  /** Layers that a crash left, or that the chain names no more. */
  leftovers(chain: Chain): string[] {
    const names = new Set(layerNames(chain))
    return this.#files.list(this.path).filter(name => LAYER_FOLDER.test(name) && !names.has(name))
  }

  /** What the data of all layers but the tops takes on the host's disk. */
  frozenBytes(chain: Chain): number {
    let sum = 0
    for (const [, { layers, top }] of disksOf(chain)) {
      for (const { name } of layers) {
        if (name !== top) sum += this.#files.allocatedBytes(join(this.path, name, 'data'))
      }
    }
    return sum
  }
}

/** Of all disks. */
export function layerNames(chain: Chain): string[] {
  return disksOf(chain).flatMap(([, { layers }]) => layers.map(({ name }) => name))
}

async function prepareChain(files: LayerFiles, settings: LayersFolderSettings): Promise<Chain> {
  const { folder, machine, image, sizeBytes, dataBytes, limits } = settings
  const found = readChain(files, folder)
  const created = dataBytes === undefined ? ['0001'] : ['0001', 'd0001']
  if (found !== undefined && (dataBytes === undefined || found.disks.data !== undefined)) return found
  const isNew = found === undefined && !LayersFolder.exist(files, folder)
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
    if (found?.disks.system === disk) continue
    const layer = join(folder, disk.top)
    // The chain that is there names no data disk: what an interrupted attempt left was never written to, and may have another size.
    if (found !== undefined) await files.deleteFolder(layer)
    if (!files.exists(layer)) await Layer.create(layer, identityOf(chain, disk, disk.top), files, limits)
  }
  await writeChain(files, folder, chain)
  return chain
}

function checkChain(chain: Chain, { folder, machine, image, sizeBytes }: LayersFolderSettings): void {
  const { system } = chain.disks
  const wrong = (what: string, found: unknown, wanted: unknown) =>
    new RowanError('LAYER_CORRUPT', `${join(folder, CHAIN_FILE)}: its ${what} is ${found}, not ${wanted}`)
  if (chain.machine !== machine) throw wrong('machine', chain.machine, machine)
  if (system.image !== image) throw wrong('image', system.image, image)
  if (system.sizeBytes !== sizeBytes) throw wrong('size', system.sizeBytes, sizeBytes)
}
