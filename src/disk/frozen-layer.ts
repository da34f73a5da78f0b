/**
 * A layer that takes no more writes: its data, and the pages of its map, each read when it is wanted.
 *
 * When a layer is frozen everything in it is durable in `data` and `map`, so its log means nothing any more, and is removed.
 *
 * Owns: the two files.
 */
import { join } from 'node:path'
import type { LayerFile, LayerFiles } from './layer-files.ts'
import type { LayerIdentity } from './layer-identity.ts'
import { LayerMapFile } from './layer-map-file.ts'
import { OpeningFiles } from './layer-opening.ts'

export class FrozenLayer {
  readonly name: string
  readonly data: LayerFile
  readonly mapFile: LayerMapFile

  private constructor(name: string, data: LayerFile, mapFile: LayerMapFile) {
    this.name = name
    this.data = data
    this.mapFile = mapFile
  }

  /** @throws RowanError LAYER_CORRUPT, naming the file, for files that are missing, cut short, damaged or another layer's */
  static open(files: LayerFiles, folder: string, identity: LayerIdentity): FrozenLayer {
    const opening = new OpeningFiles(files, folder)
    try {
      const data = opening.openData(identity)
      return new FrozenLayer(identity.layer, data, LayerMapFile.open(opening.open('map'), identity))
    } catch (error) {
      opening.closeAll()
      throw error
    }
  }

  /** Removes what only a layer that is written to needs. */
  static discardLog(files: LayerFiles, folder: string): void {
    files.remove(join(folder, 'log'))
  }

  get allocatedBytes(): number {
    return this.data.allocatedBytes
  }

  close(): void {
    this.data.close()
    this.mapFile.close()
  }
}
