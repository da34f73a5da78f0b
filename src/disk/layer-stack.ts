/**
 * The layers of one disk while they are open: the top, which takes the writes, and the map of the frozen ones below it.
 *
 * Owns: the open files. What is on which is the chain's business (chain.ts, machine-layers.ts).
 */
import { join } from 'node:path'
import type { Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { type Chain, type ChainDisk, type ChainLayer, type DiskName, layerOf, pathTo } from './chain.ts'
import { FrozenLayer } from './frozen-layer.ts'
import { FrozenMap } from './frozen-map.ts'
import { FrozenMapFile, type SavedIdentity } from './frozen-map-file.ts'
import { Layer, type LayerComponents, type LayerLimits } from './layer.ts'
import { type LayerFiles, systemFiles } from './layer-files.ts'
import type { LayerIdentity } from './layer-identity.ts'
import { SECTOR_BYTES } from './layer-map.ts'

export class LayerStack {
  readonly disk: DiskName
  top: Layer
  /** Undefined as long as no layer is frozen. */
  frozen: FrozenMap | undefined

  constructor(disk: DiskName, top: Layer, frozen: FrozenMap | undefined) {
    this.disk = disk
    this.top = top
    this.frozen = frozen
  }

  /** @throws RowanError as `Layer.open` */
  static async open(
    components: LayerComponents,
    folder: string,
    chain: Chain,
    disk: DiskName,
    limits?: LayerLimits
  ): Promise<LayerStack> {
    const files = components.files ?? systemFiles
    const state = chain.disks[disk]!
    const { parent } = layerOf(state, state.top)
    const below = pathTo(state, parent)
    const frozen = below.length === 0 ? undefined : openFrozen(components, folder, chain, disk, below)
    try {
      const identity = identityOf(chain, state, state.top)
      const top = await Layer.open({ ...components, files }, join(folder, state.top), identity, limits)
      return new LayerStack(disk, top, frozen)
    } catch (error) {
      frozen?.close()
      throw error
    }
  }

  /** The frozen layer of this name, if it is below the top. */
  find(name: string): FrozenLayer | undefined {
    return this.frozen?.path.find(layer => layer.name === name)
  }

  /** Flushes and closes the top, closes the others. They are closed also when the flush fails. */
  async close(): Promise<void> {
    try {
      await this.top.close()
    } finally {
      this.frozen?.close()
    }
  }
}

/** Layers below a place, lowest first, with their merged map. @throws RowanError as `FrozenLayer.open` */
export function openFrozen(
  components: Pick<LayerComponents, 'log' | 'files'>,
  folder: string,
  chain: Chain,
  disk: DiskName,
  path: readonly ChainLayer[]
): FrozenMap {
  const { log, files = systemFiles } = components
  const state = chain.disks[disk]!
  const map = new FrozenMap(Math.ceil(state.sizeBytes / SECTOR_BYTES), log)
  const layers: FrozenLayer[] = []
  try {
    for (const { name } of path) {
      layers.push(FrozenLayer.open(files, join(folder, name), identityOf(chain, state, name)))
    }
    map.load(layers, openSaved({ log, files }, folder, savedIdentity(chain, disk, path), map.pageCount))
    return map
  } catch (error) {
    for (const layer of layers) layer.close()
    throw error
  }
}

/** The layers know all that the saved map says: one that cannot be read is as good as none, and is made anew in the background. */
function openSaved(
  { log, files }: { log: Log; files: LayerFiles },
  folder: string,
  identity: SavedIdentity,
  pageCount: number
): FrozenMapFile | undefined {
  try {
    return FrozenMapFile.open(files, folder, identity, pageCount)
  } catch (error) {
    const { code, message } = asRowanError(error)
    log.warn('the saved map of layers cannot be read', { code, message })
    return undefined
  }
}

export function identityOf(chain: Chain, disk: Pick<ChainDisk, 'image' | 'sizeBytes'>, layer: string): LayerIdentity {
  return { machine: chain.machine, layer, image: disk.image, sizeBytes: disk.sizeBytes }
}

export function savedIdentity(chain: Chain, disk: DiskName, path: readonly ChainLayer[]): SavedIdentity {
  return { machine: chain.machine, disk, sizeBytes: chain.disks[disk]!.sizeBytes, layers: path }
}
