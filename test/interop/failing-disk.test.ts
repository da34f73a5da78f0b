/**
 * A machine's layer on a disk that refuses to write for a while: a real ext4, on a loop device, on a file of nbdfuse, on nbdkit's
 * error filter. The kernel then keeps what it could not write as if it had been written, and the next sync says that all
 * is well; nothing of that may reach a guest.
 */
import { access, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, expect, test } from 'vitest'
import { RowanDisk } from '../../src/disk/rowan-disk.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { fuseCanBeHad, needTools } from '../tools/need.ts'
import { endProcesses, runOk, start } from '../tools/processes.ts'
import { waitUntil } from '../tools/wait.ts'
import { components, TestImage } from '../unit/disk/support/test-image.ts'

const KIB = 1024
const DISK_BYTES = 8 * KIB * KIB
/** A flush of more than this is a sync of the data, one of less a sync of the log. */
const LARGE_BYTES = 256 * KIB
const SMALL_BYTES = 4 * KIB

const opened: RowanDisk[] = []

afterEach(endProcesses)
afterAll(removeFolders)

const describeDisk = needTools(['nbdkit', 'nbdfuse', 'losetup', 'mkfs.ext4'])

describeDisk('a host’s disk that refuses to write', () => {
  test.skipIf(!fuseCanBeHad()).each([
    ['ENOSPC', LARGE_BYTES],
    ['ENOSPC', SMALL_BYTES],
    ['EIO', LARGE_BYTES],
    ['EIO', SMALL_BYTES]
  ])(
    'what is found after %s of a flush of %i bytes, and flushed, is there when nothing is in memory',
    async (error, length) => {
      await withFailingDisk(error, async ({ folder, refuse, accept, forget }) => {
        const first = await openDisk(folder, 'boot-1', true)
        await first.write(0, new Uint8Array(LARGE_BYTES).fill(1))
        await first.flush()

        await refuse()
        await first.write(0, new Uint8Array(length).fill(2))
        await expect(first.flush()).rejects.toMatchObject({ code: 'LAYER_FAILED' })
        expect(() => first.write(0, new Uint8Array(512))).toThrow(expect.objectContaining({ code: 'LAYER_FAILED' }))
        await accept()
        await first.close()

        // The same boot: what the kernel dropped is in its cache.
        const second = await openDisk(folder, 'boot-1')
        const shown = await readAll(second)
        expect(new Set(shown.subarray(length))).toEqual(new Set(length < LARGE_BYTES ? [1] : []))
        await second.flush()
        await second.close()

        await forget()
        const third = await openDisk(folder, 'boot-2')
        expect(Buffer.compare(await readAll(third), shown)).toBe(0)
        await third.close()
      })
    }
  )
})

async function openDisk(folder: string, bootId: string, create = false): Promise<RowanDisk> {
  const settings = { folder: join(folder, 'layers'), machine: 'm', readOnly: false, create }
  const disk = await RowanDisk.open(components(new TestImage(DISK_BYTES), bootId), settings)
  opened.push(disk)
  return disk
}

async function readAll(disk: RowanDisk): Promise<Uint8Array> {
  const found = new Uint8Array(LARGE_BYTES)
  await disk.read(0, found)
  return found
}

interface FailingDisk {
  /** On it. */
  folder: string
  /** From now on every write of the disk fails. */
  refuse(): Promise<void>
  accept(): Promise<void>
  /** As a power loss does: the page cache is gone. */
  forget(): Promise<void>
}

async function withFailingDisk(error: string, work: (disk: FailingDisk) => Promise<void>): Promise<void> {
  const place = await temporaryFolder()
  const [socket, file, mounted, refusing] = ['socket', 'disk', 'mounted', 'refusing'].map(name =>
    join(place, name)
  ) as [string, string, string, string]
  await writeFile(file, '')
  await mkdir(mounted)
  const errors = [`error=${error}`, 'error-pwrite-rate=100%', `error-file=${refusing}`]
  const server = start('nbdkit', ['--foreground', '--unix', socket, '--filter=error', 'memory', '256M', ...errors])
  await waitUntil('nbdkit', () =>
    access(socket).then(
      () => true,
      () => false
    )
  )
  const fuse = start('nbdfuse', [file, `nbd+unix:///?socket=${socket}`])
  await waitUntil('the disk as a file', async () => (await runOk('stat', ['-c', '%s', file])).trim() !== '0')
  const loop = (await runOk('losetup', ['--find', '--show', file])).trim()
  // Nothing but what the test does is written while writes are refused: an error in the journal would end the file system.
  const mount = () => runOk('mount', ['-o', 'commit=300', loop, mounted])
  try {
    await runOk('mkfs.ext4', ['-q', loop])
    await mount()
    try {
      await work({
        folder: mounted,
        refuse: async () => {
          await runOk('sync', ['--file-system', mounted])
          await writeFile(refusing, '')
        },
        accept: () => rm(refusing),
        forget: async () => {
          await runOk('umount', [mounted])
          await mount()
        }
      })
    } finally {
      // Also those of a test that failed: what is open cannot be unmounted.
      await Promise.allSettled(opened.splice(0).map(disk => disk.close()))
      await runOk('umount', [mounted])
    }
  } finally {
    await runOk('losetup', ['--detach', loop])
    await runOk('umount', [file])
    await fuse.exited
    await server.stop()
  }
}
