/**
 * Files of a layer with anything in them: they are refused with LAYER_CORRUPT, or what is read is what was written.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeIdentity, IDENTITY_BYTES } from '../../src/disk/layer-identity.ts'
import { RowanDisk } from '../../src/disk/rowan-disk.ts'
import { RowanError } from '../../src/errors.ts'
import { RecordingFiles } from '../unit/disk/support/recording-files.ts'
import { components, TestImage } from '../unit/disk/support/test-image.ts'

const SIZE_BYTES = 9 * 1024 * 1024
const WRITTEN = [0, 8 * 1024 * 1024] as const

let folders = 0

function open(files: RecordingFiles, bootId: string): Promise<RowanDisk> {
  return RowanDisk.open(
    { ...components(new TestImage(SIZE_BYTES), bootId), files },
    {
      folder: `/fuzz-${folders++}`,
      machine: 'm',
      readOnly: false,
      create: true,
      limits: { logAreaBytes: 16_384, maxChangedPages: 100, maxLoggedBytes: 4096 }
    }
  )
}

function contentOf(disk: RowanDisk): Uint8Array {
  const content = new Uint8Array(16_384)
  for (const [index, at] of WRITTEN.entries()) disk.read(at, content.subarray(index * 8192, (index + 1) * 8192))
  return content
}

async function written(): Promise<{ files: RecordingFiles; flushed: Uint8Array; acknowledged: Uint8Array }> {
  const files = new RecordingFiles()
  const disk = await open(files, 'boot')
  for (const at of WRITTEN) disk.write(at + 512, new Uint8Array(1024).fill(1))
  // So it is in the map file.
  await disk.close()
  const again = await open(files, 'boot')
  const flushed = contentOf(again)
  for (const at of WRITTEN) again.trim(at + 4096, 1024)
  again.settle()
  return { files, flushed, acknowledged: contentOf(again) }
}

const damage = fc.record({
  file: fc.constantFrom('map', 'log'),
  /** Into the part of the file where something is. */
  position: fc.oneof(
    fc.nat(600),
    fc.nat(1100).map(n => 4096 + n),
    fc.nat(10_000).map(n => 8192 + n),
    // The directory of the map.
    fc.nat(520).map(n => 20_480 + n)
  ),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 600 })
})

test('damage to the map or the log is noticed, or does no harm', async () => {
  const { files, flushed, acknowledged } = await written()
  let refused = 0
  const property = fc.asyncProperty(
    fc.array(damage, { minLength: 1, maxLength: 4 }),
    fc.boolean(),
    async (damages, sameBoot) => {
      const damaged = new RecordingFiles(files.disk.clone())
      for (const { file, position, bytes } of damages) {
        const room = damaged.open(file).sizeBytes - position
        if (room > 0) damaged.record({ kind: 'write', file, position, bytes: bytes.subarray(0, room) })
      }
      let content: Uint8Array
      try {
        content = contentOf(await open(damaged, sameBoot ? 'boot' : 'another boot'))
      } catch (error) {
        if (!(error instanceof RowanError) || error.code !== 'LAYER_CORRUPT') throw error
        refused++
        return
      }
      const logIsWhole = damages.every(({ file }) => file === 'map')
      if (sameBoot && logIsWhole) expect(content).toEqual(acknowledged)
      for (let at = 0; at < content.length; at += 512) {
        const sector = content.subarray(at, at + 512)
        const oldOrNew = [flushed, acknowledged].map(whole => whole.subarray(at, at + 512))
        expect(oldOrNew.some(possible => Buffer.compare(sector, possible) === 0)).toBe(true)
      }
    }
  )
  await fc.assert(property, { seed: 27_182, numRuns: 1_000 })
  expect(refused).toBeGreaterThan(100)
})

test('any 512 bytes are an identity or none', () => {
  const property = fc.property(fc.uint8Array({ minLength: IDENTITY_BYTES, maxLength: IDENTITY_BYTES }), bytes => {
    decodeIdentity(Buffer.from(bytes))
  })
  fc.assert(property, { seed: 161_803, numRuns: 1_000 })
})
