import { execFile, spawn } from 'node:child_process'
import { existsSync, readSync } from 'node:fs'
import {
  appendFile,
  chmod,
  mkdir,
  open as openFile,
  readdir,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile
} from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type ImageInput, openImage, removeLeftovers } from '../../../src/release/image-input.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { describeWithTools } from '../../tools/need.ts'
import { waitUntil } from '../../tools/wait.ts'
import { blockOf, writeImage, writeSparseImage } from './support/images.ts'

const run = promisify(execFile)
let folder: string
let temporary: string
const opened: ImageInput[] = []

beforeEach(async () => {
  folder = await temporaryFolder()
  temporary = join(folder, 'tmp')
  await mkdir(temporary)
})

afterEach(async () => {
  for (const input of opened.splice(0)) await input.close()
  await removeFolders()
})

const path = (name: string) => join(folder, name)

async function open(name: string, qemuImg?: string): Promise<ImageInput> {
  const input = await openImage(path(name), { temporaryFolder: temporary, qemuImg })
  opened.push(input)
  return input
}

test('a raw file is taken as it is', async () => {
  await writeImage(path('a.raw'), [1, 0, 2], 100)
  const input = await open('a.raw')
  expect(input).toMatchObject({ format: 'raw', sizeBytes: 3 * 65536 + 100, isSparse: false })
  const byte = Buffer.alloc(1)
  readSync(input.fd, byte, 0, 1, 65536 * 2)
  expect(byte[0]).toBe(blockOf(2)[0])
})

test('a sparse file is seen to be one', async () => {
  await writeSparseImage(path('a.raw'), 1024 ** 3, { 5: 1 })
  expect((await open('a.raw')).isSparse).toBe(true)
})

test('what is not there, and what is no file', async () => {
  await expect(open('none.raw')).rejects.toMatchObject({ code: 'IMAGE_NOT_FOUND' })
  await writeFile(path('file'), 'x')
  await expect(open('file/inside')).rejects.toMatchObject({ code: 'IMAGE_NOT_FOUND' })
  await symlink(path('loop'), path('loop'))
  await expect(open('loop')).rejects.toMatchObject({ code: 'IMAGE_NOT_FOUND' })
  await expect(open('')).rejects.toMatchObject({ code: 'IMAGE_NOT_A_FILE' })
  await run('mkfifo', [path('fifo')])
  await expect(open('fifo')).rejects.toMatchObject({ code: 'IMAGE_NOT_A_FILE' })
  await symlink('/dev/zero', path('zero'))
  await expect(open('zero')).rejects.toMatchObject({ code: 'IMAGE_NOT_A_FILE' })
})

test('a file that may not be read', async () => {
  await writeImage(path('a.raw'), [1])
  await chmod(path('a.raw'), 0o000)
  await chmod(folder, 0o755)
  // Root may read everything, so it becomes nobody for a moment.
  const isRoot = process.getuid!() === 0
  if (isRoot) process.seteuid!(65534)
  try {
    await expect(open('a.raw')).rejects.toMatchObject({ code: 'IMAGE_UNREADABLE' })
  } finally {
    if (isRoot) process.seteuid!(0)
  }
})

test('sizes that no image has', async () => {
  await writeFile(path('empty'), '')
  await expect(open('empty')).rejects.toMatchObject({ code: 'IMAGE_EMPTY' })
  await writeFile(path('huge'), '')
  await truncate(path('huge'), 8 * 1024 ** 4 + 1)
  await expect(open('huge')).rejects.toMatchObject({ code: 'IMAGE_TOO_LARGE' })
})

test.each([
  ['VMDK', 'KDMV', 0],
  ['VMDK', '# Disk DescriptorFile', 0],
  ['VHDX', 'vhdxfile', 0],
  ['VHD', 'conectix', 0],
  ['VDI', '\x7f\x10\xda\xbe', 64],
  ['QED', 'QED\0', 0],
  ['gzip', '\x1f\x8b\x08', 0],
  ['zstd', '\x28\xb5\x2f\xfd', 0]
])('a %s file is told from a disk', async (name, mark, offset) => {
  const bytes = Buffer.alloc(4096)
  bytes.write(mark, offset, 'latin1')
  await writeFile(path('image'), bytes)
  await expect(open('image')).rejects.toMatchObject({ code: 'IMAGE_FORMAT', message: expect.stringContaining(name) })
})

test('a disk of fixed VHD has its mark at the end', async () => {
  const bytes = Buffer.alloc(70_000)
  bytes.write('conectix', bytes.length - 512, 'latin1')
  await writeFile(path('image'), bytes)
  await expect(open('image')).rejects.toMatchObject({ code: 'IMAGE_FORMAT', message: expect.stringContaining('VHD') })
})

test('a file that changes after it was opened', async () => {
  for (const [name, change] of [
    ['shrinks', (at: string) => truncate(at, 65536)],
    ['grows', (at: string) => appendFile(at, 'x')],
    ['written', (at: string) => writeFile(at, blockOf(2), { flag: 'r+' })],
    ['touched', (at: string) => utimes(at, 1, 1)]
  ] as const) {
    await writeImage(path(name), [1, 3])
    const input = await open(name)
    await input.checkUnchanged()
    await change(path(name))
    await expect(input.checkUnchanged(), name).rejects.toMatchObject({ code: 'IMAGE_CHANGED' })
  }
})

test('leftovers of a crash go, other files stay', async () => {
  await writeFile(join(temporary, 'publish-01234567-89ab-cdef-0123-456789abcdef.raw'), 'x')
  await writeFile(join(temporary, 'other.raw'), 'x')
  // A boot that was being recorded wrote to a layer of its own.
  await mkdir(join(temporary, 'recording-x7Yz01', 'layers', '0001'), { recursive: true })
  await removeLeftovers(temporary)
  expect(await readdir(temporary)).toEqual(['other.raw'])
  await removeLeftovers(path('new'))
  expect(existsSync(path('new'))).toBe(true)
})

describeWithTools('qcow2', ['qemu-img'], () => {
  beforeEach(async () => {
    await writeImage(path('disk.raw'), [1, 0, 0, 2, 0, 3])
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', path('disk.raw'), path('disk.qcow2')])
  })

  test('is converted to the disk in it, in a file that is gone by itself', async () => {
    const parts: number[] = []
    const onConverted = (fraction: number) => parts.push(fraction)
    const input = await openImage(path('disk.qcow2'), { temporaryFolder: temporary, onConverted })
    opened.push(input)
    expect(input).toMatchObject({ format: 'qcow2', sizeBytes: 6 * 65536, isSparse: true })
    expect(await readdir(temporary)).toEqual([])
    const disk = Buffer.alloc(6 * 65536)
    expect(readSync(input.fd, disk, 0, disk.length, 0)).toBe(disk.length)
    expect(disk.subarray(3 * 65536, 4 * 65536)).toEqual(blockOf(2))
    expect(parts.at(-1)).toBe(1)
  })

  test('needs qemu-img', async () => {
    await expect(open('disk.qcow2', 'qemu-img-is-not-here')).rejects.toMatchObject({
      code: 'TOOL_MISSING',
      message: expect.stringContaining('qemu-utils')
    })
  })

  test('that is damaged inside is refused, and nothing is left behind', async () => {
    const file = await openFile(path('disk.qcow2'), 'r+')
    await file.write(Buffer.from([0, 0, 0, 0, 0, 0, 0, 77]), 0, 8, 40) // the L1 table, where no cluster begins
    await file.close()
    await expect(open('disk.qcow2')).rejects.toMatchObject({
      code: 'IMAGE_FORMAT',
      message: expect.stringContaining('disk.qcow2')
    })
    expect(await readdir(temporary)).toEqual([])
  })

  test('that was cut short by a cluster or more is refused, wherever the cut is', async () => {
    const { size } = await stat(path('disk.qcow2'))
    for (const cut of [65536, 2 * 65536, 3 * 65536, 4 * 65536, 5 * 65536, size - 100]) {
      await run('cp', [path('disk.qcow2'), path('cut.qcow2')])
      await truncate(path('cut.qcow2'), size - cut)
      await expect(open('cut.qcow2'), `cut by ${cut}`).rejects.toMatchObject({ code: 'IMAGE_FORMAT' })
    }
    expect(await readdir(temporary)).toEqual([])
  })

  test('that is in use by a guest is refused', async () => {
    const io = spawn('qemu-io', [path('disk.qcow2')], { stdio: ['pipe', 'pipe', 'inherit'] })
    await new Promise(resolve => io.stdout.once('data', resolve))
    try {
      await expect(open('disk.qcow2')).rejects.toMatchObject({ code: 'IMAGE_CHANGED' })
    } finally {
      io.stdin.end()
      await new Promise(resolve => io.once('close', resolve))
    }
  })

  test('that is written to while it is converted', async () => {
    const slow = path('slow-qemu-img')
    await writeFile(slow, `#!/bin/sh\nqemu-img "$@" && printf x >> ${path('disk.qcow2')}\n`, { mode: 0o755 })
    await expect(open('disk.qcow2', slow)).rejects.toMatchObject({ code: 'IMAGE_CHANGED' })
    expect(await readdir(temporary)).toEqual([])
  })

  test('whose conversion is called off leaves nothing behind', async () => {
    const slow = path('slow-qemu-img')
    const started = path('started')
    await writeFile(slow, `#!/bin/sh\nfor last; do :; done; echo x > "$last"; : > ${started}; exec sleep 60\n`, {
      mode: 0o755
    })
    const controller = new AbortController()
    const opening = openImage(path('disk.qcow2'), {
      temporaryFolder: temporary,
      qemuImg: slow,
      signal: controller.signal
    })
    opening.catch(() => {})
    await waitUntil('the conversion', () => existsSync(started))
    controller.abort()
    await expect(opening).rejects.toMatchObject({ code: 'ABORTED' })
    expect(await readdir(temporary)).toEqual([])
  })
})
