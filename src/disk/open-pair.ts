/**
 * The two layers of a merge, open while it lasts.
 *
 * Where the disk shows them they are open already, and stay so; of a branch that is not shown now they are opened for
 * the occasion. The smaller one is put into the larger (layer-merge.ts).
 */
import { join } from 'node:path'
import { asRowanError, RowanError } from '../errors.ts'
import type { Chain, MergePair } from './chain.ts'
import { FrozenLayer } from './frozen-layer.ts'
import type { LayerFiles } from './layer-files.ts'
import { type MergePace, mergeLayers } from './layer-merge.ts'
import { identityOf, type LayerStack } from './layer-stack.ts'
import type { Sectors } from './zero-blocks.ts'

export class OpenPair {
  readonly lower: FrozenLayer
  readonly upper: FrozenLayer
  /** Whether they are those of the disk that is in use. */
  readonly areShown: boolean
  /** The one that is needed no more afterwards, and the one that has it all. */
  readonly from: FrozenLayer
  readonly into: FrozenLayer

  readonly #files: LayerFiles

  private constructor(files: LayerFiles, lower: FrozenLayer, upper: FrozenLayer, areShown: boolean) {
    this.#files = files
    this.lower = lower
    this.upper = upper
    this.areShown = areShown
    const down = upper.allocatedBytes <= lower.allocatedBytes
    this.from = down ? upper : lower
    this.into = down ? lower : upper
  }

  /** @throws RowanError as `FrozenLayer.open` */
  static open(files: LayerFiles, folder: string, chain: Chain, pair: MergePair, stack: LayerStack): OpenPair {
    const [lower, upper] = [stack.find(pair.lower), stack.find(pair.upper)]
    if (lower !== undefined && upper !== undefined) return new OpenPair(files, lower, upper, true)
    const opened: FrozenLayer[] = []
    try {
      for (const name of [pair.lower, pair.upper]) {
        opened.push(FrozenLayer.open(files, join(folder, name), identityOf(chain, chain.disks[pair.disk]!, name)))
      }
      return new OpenPair(files, opened[0]!, opened[1]!, false)
    } catch (error) {
      for (const layer of opened) layer.close()
      throw error
    }
  }

  /** As `mergeLayers`. After an error the next attempt finds what is on the disk (`openParts` says why). */
  async merge(sizeBytes: number, pace: MergePace, onZero?: (zero: Sectors) => void): Promise<boolean> {
    const { from, into } = this
    try {
      return await mergeLayers(from, into, into === this.lower ? 'down' : 'up', sizeBytes, pace, onZero)
    } catch (error) {
      const forgotten = await Promise.allSettled(
        [into.data.path, into.mapFile.path].map(path => this.#files.forget(path))
      )
      const failed = forgotten.find(({ status }) => status === 'rejected') as PromiseRejectedResult | undefined
      if (failed === undefined) throw error
      const { code, message } = asRowanError(error)
      throw new RowanError(code, `${message}; ${asRowanError(failed.reason).message}`, { cause: error })
    }
  }

  /** Closes what was opened for the occasion. */
  close(): void {
    if (this.areShown) return
    this.lower.close()
    this.upper.close()
  }
}
