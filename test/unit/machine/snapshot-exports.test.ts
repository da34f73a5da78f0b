import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { type Chain, mergeable } from '../../../src/disk/chain.ts'
import { EmptyImage } from '../../../src/disk/empty-image.ts'
import { MachineLayers } from '../../../src/disk/machine-layers.ts'
import { SnapshotExports } from '../../../src/machine/snapshot-exports.ts'
import type { LocalImage } from '../../../src/store/images.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { components, TestImage } from '../disk/support/test-image.ts'

const SIZE_BYTES = 1024 * 1024
const REQUEST = { note: '', taken: '2026-01-02T03:04:05.678Z' }
const PACE = { signal: new AbortController().signal, breathe: async () => {} }

afterEach(removeFolders)

test('a snapshot whose layers are merged just when it is to be read is read of what they became', async () => {
  const layersFolder = join(await temporaryFolder(), 'layers')
  const parts = components(new TestImage(SIZE_BYTES))
  const settings = { folder: layersFolder, machine: 'm', image: 'ab'.repeat(32), sizeBytes: SIZE_BYTES, create: true }
  const layers = await MachineLayers.open(parts, settings)
  const write = (sector: number) =>
    layers.stack('system')!.top.writeSync(sector * 512, new Uint8Array(512).fill(sector))
  for (const sector of [1, 2]) {
    write(sector)
    await layers.snapshot(REQUEST)
  }
  const before = layers.chain
  await layers.discard('s1')
  await layers.compaction.merge(mergeable(layers.chain)[0]!, PACE)
  expect(layers.chain.disks.system.layers).toHaveLength(2)

  const unused = {} as never
  const exports = new SnapshotExports({ pool: unused, swarm: unused, clock: parts.clock as never, log: parts.log })
  const image = Object.assign(new EmptyImage(SIZE_BYTES), { use: () => () => undefined }) as unknown as LocalImage
  const chains: Chain[] = [before]
  const readChain = () => chains.pop() ?? layers.chain
  const what = { machine: 'm', image, layersFolder, disk: 'system' as const, readChain }
  const { reader, release } = await exports.open({ ...what, snapshot: 's2' }, async () => {})
  const found = new Uint8Array(3 * 512)
  await reader.read(0, found)
  expect([found[0], found[512], found[1024]]).toEqual([0, 1, 2])
  await release()

  // One whose layers are really missing is not looked for again and again.
  await layers.close()
  const missing = { ...before, disks: { system: { ...before.disks.system } } }
  let told = 0
  const opening = exports.open({ ...what, readChain: () => missing, snapshot: 's2' }, async () => void told++)
  await expect(opening).rejects.toMatchObject({ code: 'LAYER_CORRUPT' })
  expect([told, exports.isRead('s2')]).toEqual([1, false])
})
