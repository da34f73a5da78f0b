/**
 * What a client was told is durable, after a power loss: a real server over a real disk whose files are simulated.
 */
import { afterEach, expect, test } from 'vitest'
import { RowanDisk } from '../../src/disk/rowan-disk.ts'
import { COMMAND, COMMAND_FLAG } from '../../src/nbd/protocol.ts'
import { NbdClient } from '../tools/nbd-client.ts'
import { serve, stopServers } from '../tools/nbd-fixture.ts'
import { RecordingFiles } from '../unit/disk/support/recording-files.ts'
import { components, TestImage } from '../unit/disk/support/test-image.ts'

const GIB = 1024 ** 3
const SIZE_BYTES = 3 * GIB

afterEach(stopServers)

/** The disk after a loss in which nothing that was not synced reached the host's disk. */
async function afterPowerLoss(files: RecordingFiles, image: TestImage): Promise<RowanDisk> {
  const left = new RecordingFiles(files.disk.afterPowerLoss(() => 0))
  return await RowanDisk.open(
    { ...components(image, 'boot-2'), files: left },
    { folder: '/later', machine: 'm', readOnly: false }
  )
}

test.each([
  ['zeros', COMMAND.WRITE_ZEROES],
  ['a trim', COMMAND.TRIM]
])(
  '%s with FUA over more than a GiB, which are made in parts, are durable to the first and last byte',
  async (_, command) => {
    const image = new TestImage(SIZE_BYTES)
    const files = new RecordingFiles()
    const settings = { folder: '/disk', machine: 'm', readOnly: false, create: true }
    const disk = await RowanDisk.open({ ...components(image, 'boot-1'), files }, settings)
    await disk.flush()
    // No block sizes were asked for, so offsets may be odd; the sectors at both ends are then data.
    const [offset, length] = [100, GIB + 8192]
    const { path } = await serve(disk)
    const client = await NbdClient.open(path, '', [])
    expect(await client.request(command, { offset, length, flags: COMMAND_FLAG.FUA })).toMatchObject({ errno: 0 })

    const later = await afterPowerLoss(files, image)
    for (const at of [0, 512, GIB - 512, GIB, offset + length - 600]) {
      const bytes = new Uint8Array(600)
      await later.read(at, bytes)
      const expected = image.expected(at, new Uint8Array(600))
      expected.fill(0, Math.max(0, offset - at), offset + length - at)
      expect(bytes, `at ${at}`).toEqual(expected)
    }
    await disk.close()
    await later.close()
  }
)
